/**
 * The ways to log in beside the password: verified addresses, and accounts at OAuth2 providers. They are added by
 * `LoginFlows` and `ThirdPartyIds`.
 *
 * Source: "Registration and login" of the draft.
 */
import type { ThirdPartyId } from "@greenroom/protocol/identity/ThirdPartyId"
import { type MatrixError, NotFound } from "@greenroom/protocol/MatrixError"
import { type ProviderSubject, UserIdentityStore, type VerifiedAddress } from "@greenroom/store/UserIdentityStore"
import { Context, Effect, Layer } from "effect"
import type { Session } from "../runtime/Session.ts"

export type { VerifiedAddress }

const make = Effect.map(UserIdentityStore, (store) => {
  const mustBeRemoved = (removed: boolean) =>
    removed ? Effect.void : Effect.fail(new NotFound({ error: "Your account has no such address or service" }))
  return LoginMethods.of({
    addresses: ({ userId }) => store.addressesOf(userId),
    services: ({ userId }) => store.subjectsOf(userId),
    removeAddress: ({ userId }, address) => Effect.flatMap(store.unbindAddress(userId, address), mustBeRemoved),
    removeService: ({ userId }, subject) => Effect.flatMap(store.unlinkSubject(userId, subject), mustBeRemoved)
  })
})

/** All methods concern the user of the session. */
export class LoginMethods extends Context.Service<
  LoginMethods,
  {
    /** The email addresses and phone numbers of the account. */
    readonly addresses: (session: Session) => Effect.Effect<ReadonlyArray<VerifiedAddress>>
    /** The accounts at OAuth 2.0 providers by which the user may log in. */
    readonly services: (session: Session) => Effect.Effect<ReadonlyArray<ProviderSubject>>
    /** The address must be in canonical form. Errors: M_NOT_FOUND. */
    readonly removeAddress: (session: Session, address: ThirdPartyId) => Effect.Effect<void, MatrixError>
    /** Errors: M_NOT_FOUND. */
    readonly removeService: (session: Session, subject: ProviderSubject) => Effect.Effect<void, MatrixError>
  }
>()("greenroom/actors/account/LoginMethods") {
  static readonly layer = Layer.effect(
    LoginMethods,
    Effect.suspend(() => make)
  )
}
