/**
 * The addresses of an account. An identity server has verified that they belong to the user, and lets others find the user
 * by them.
 *
 * Source: "Identity" of the draft.
 */
import type { ThirdPartyId } from "@greenroom/protocol/identity/ThirdPartyId"
import type { SessionProof } from "@greenroom/protocol/identity/ValidationApi"
import { Forbidden, type MatrixError, NotFound, ThirdPartyIdInUse } from "@greenroom/protocol/MatrixError"
import { SigningKeys } from "@greenroom/store/SigningKeys"
import { UserIdentityStore, type VerifiedAddress } from "@greenroom/store/UserIdentityStore"
import { Context, Effect, Layer } from "effect"
import type { Session } from "../runtime/Session.ts"
import { IdentityClient } from "./IdentityClient.ts"
import type { IdentityFailure, IdentityServer } from "./IdentityServer.ts"

/** A session of an identity server; of the first trusted one if none is named. */
export interface AddressProof extends SessionProof {
  readonly id_server?: string
}

/** An address and an identity server that may say whose it is. */
export interface Binding extends ThirdPartyId {
  readonly server: IdentityServer
}

const isSame = (one: ThirdPartyId, other: ThirdPartyId): boolean =>
  one.medium === other.medium && one.address === other.address

const make = Effect.gen(function* () {
  const identity = yield* IdentityClient
  const addresses = yield* UserIdentityStore
  const signingKeys = yield* SigningKeys

  const bind = Effect.fn("ThirdPartyIds.bind")(function* ({ userId }: Session, proof: AddressProof) {
    const server = yield* identity.trusted(proof.id_server)
    const address = yield* identity.validated(server, proof)
    if (!(yield* addresses.bindAddress(userId, address))) {
      return yield* new Forbidden({ error: "The address belongs to another account of this server" })
    }
    yield* identity.bind(server, proof, address, userId)
  })

  const add = Effect.fn("ThirdPartyIds.add")(function* ({ userId }: Session, address: ThirdPartyId) {
    if (!(yield* addresses.bindAddress(userId, address))) {
      return yield* new ThirdPartyIdInUse({ error: "The address belongs to another account of this server" })
    }
  })

  const publish = Effect.fn("ThirdPartyIds.publish")(function* (
    { userId }: Session,
    proof: AddressProof,
    accessToken?: string
  ) {
    // Without a token of the user only trusted servers are asked.
    const server = yield* accessToken === undefined
      ? identity.trusted(proof.id_server)
      : identity.named(proof.id_server)
    const address = yield* identity.validated(server, proof, accessToken)
    yield* addresses.noteBinding(userId, { ...address, server })
    yield* identity.bind(server, proof, address, userId, accessToken)
  })

  const unbind = Effect.fn("ThirdPartyIds.unbind")(function* (
    { userId }: Session,
    address: ThirdPartyId,
    proof?: AddressProof
  ) {
    if (proof !== undefined) {
      const server = yield* identity.trusted(proof.id_server)
      yield* Effect.catchTag(identity.unbind(server, proof, address, userId), "M_NOT_FOUND", () => Effect.void)
    }
    if (!(yield* addresses.unbindAddress(userId, address))) {
      return yield* new NotFound({ error: "Your account has no such address" })
    }
  })

  const bindings = Effect.fn("ThirdPartyIds.bindings")(function* (
    { userId }: Session,
    of: ThirdPartyId | undefined,
    idServer?: string
  ): Effect.fn.Return<ReadonlyArray<Binding>> {
    const noted = (yield* addresses.bindingsOf(userId)) as ReadonlyArray<Binding>
    const known = of === undefined ? [...(yield* addresses.addressesOf(userId)), ...noted] : [of]
    const named =
      idServer === undefined
        ? undefined
        : yield* Effect.match(identity.named(idServer), { onSuccess: (server) => [server], onFailure: () => [] })
    const found = [
      ...(named ?? identity.servers).flatMap((server) =>
        known.map(({ address, medium }): Binding => ({ medium, address, server }))
      ),
      ...(named === undefined ? noted.filter((binding) => known.some((other) => isSame(binding, other))) : [])
    ]
    return [...new Map(found.map((binding) => [JSON.stringify(Object.values(binding)), binding])).values()]
  })

  const withdraw = Effect.fn("ThirdPartyIds.withdraw")(function* (
    { userId }: Session,
    bindings: ReadonlyArray<Binding>
  ) {
    const key = yield* signingKeys.current
    const done = yield* Effect.forEach(
      bindings,
      (binding) =>
        Effect.tap(identity.withdraw(binding.server, binding, userId, key), (isGone) =>
          isGone ? addresses.forgetBinding(userId, binding) : Effect.void
        ),
      { concurrency: 4 }
    )
    return done.every(Boolean)
  })

  return ThirdPartyIds.of({
    list: ({ userId }) => addresses.addressesOf(userId),
    bind,
    add,
    publish,
    unbind,
    bindings,
    withdraw
  })
})

/** The addresses of accounts, and their bindings at identity servers. */
export class ThirdPartyIds extends Context.Service<
  ThirdPartyIds,
  {
    /** The addresses of the account, with the times of their validation. */
    readonly list: (session: Session) => Effect.Effect<ReadonlyArray<VerifiedAddress>>
    /**
     * Adds the address that the proof is for, and has the identity server bind it to the user. Errors: M_FORBIDDEN if it
     * belongs to another account, and those of identity servers.
     */
    readonly bind: (session: Session, proof: AddressProof) => Effect.Effect<void, IdentityFailure>
    /** Adds an address that was shown to be the user's. Errors: M_THREEPID_IN_USE. */
    readonly add: (session: Session, address: ThirdPartyId) => Effect.Effect<void, MatrixError>
    /**
     * Has the identity server bind the address that the proof is for to the user, and adds it to no account. With an access
     * token of the user for that server, by version 2 of its API.
     */
    readonly publish: (
      session: Session,
      proof: AddressProof,
      accessToken?: string
    ) => Effect.Effect<void, IdentityFailure>
    /** Takes an address away; with a proof of it also from the identity server. Errors: M_NOT_FOUND. */
    readonly unbind: (
      session: Session,
      address: ThirdPartyId,
      proof?: AddressProof
    ) => Effect.Effect<void, IdentityFailure>
    /**
     * Where an address may be bound, or all addresses of the user: at the identity server that is named, else at every trusted one
     * and those at which this server had it bound.
     */
    readonly bindings: (
      session: Session,
      of: ThirdPartyId | undefined,
      idServer?: string
    ) => Effect.Effect<ReadonlyArray<Binding>>
    /** Removes bindings at identity servers. True if all were removed. The addresses of the account stay. */
    readonly withdraw: (session: Session, bindings: ReadonlyArray<Binding>) => Effect.Effect<boolean>
  }
>()("greenroom/actors/ThirdPartyIds") {
  static readonly layer = Layer.effect(ThirdPartyIds, make)
}
