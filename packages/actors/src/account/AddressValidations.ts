/**
 * Validates the ownership of addresses, for today's client API: to register, to add an address to an account, to set a new
 * password. If this server has a mail server, it sends a link to an email address itself. The first trusted identity server
 * validates phone numbers, and also email addresses if there is no mail server.
 *
 * The answer does not depend on whether an email address belongs to an account: only the mail does. The operator may want an error instead
 * (`revealAddresses`).
 *
 * Source: "Adding Account Administrative Contact Information" of the client-server specification.
 */
import { randomBytes } from "node:crypto"
import { isNextLink } from "@greenroom/protocol/identity/NextLink"
import {
  canonicalEmail,
  canonicalPhoneNumber,
  type Medium,
  type ThirdPartyId
} from "@greenroom/protocol/identity/ThirdPartyId"
import {
  InvalidParam,
  type MatrixError,
  NotFound,
  ThirdPartyIdAuthFailed,
  ThirdPartyIdInUse,
  ThirdPartyIdMediumNotSupported,
  ThirdPartyIdNotFound
} from "@greenroom/protocol/MatrixError"
import {
  AddressValidationStore,
  type Validation,
  type ValidationPurpose
} from "@greenroom/store/AddressValidationStore"
import { newSecret } from "@greenroom/store/Secrets"
import { UserIdentityStore } from "@greenroom/store/UserIdentityStore"
import { Clock, Context, Effect, Layer, Option, Redacted } from "effect"
import { SqlClient } from "effect/sql"
import { IdentityClient } from "../identity/IdentityClient.ts"
import { type TrustedServer, toMatrixError } from "../identity/IdentityServer.ts"
import type { AddressProof } from "../identity/ThirdPartyIds.ts"
import { HomeServerConfig } from "../runtime/HomeServerConfig.ts"
import { periodicallyOnce } from "../runtime/Singletons.ts"
import { LoginConfig } from "./login/LoginConfig.ts"
import { LoginThrottle } from "./login/LoginThrottle.ts"
import { Mailer } from "./login/Mailer.ts"
import type { TemplateName } from "./login/MailTemplates.ts"

interface TokenRequest {
  readonly purpose: ValidationPurpose
  /** Chosen by the client, which proves with it that the session is its own. */
  readonly clientSecret: string
  /** A number higher than the last one requests another message. */
  readonly sendAttempt: number
  /** The page to which the page of the link leads. */
  readonly nextLink: string | undefined
  /** The network address of the client. */
  readonly address: string
  /** The URL of this server, without a slash at the end. */
  readonly publicUrl: string
}

/** A request to send a link to an email address. */
export interface EmailTokenRequest extends TokenRequest {
  readonly email: string
}

/** A request to send a code to a phone number. */
export interface PhoneTokenRequest extends TokenRequest {
  readonly phoneNumber: string
  /** The country whose national form the number has: two capital letters. */
  readonly country: string | undefined
}

/** A new session. The client sends the code of a text message to `submit_url`. */
export interface BegunValidation {
  readonly sid: string
  readonly submit_url?: string
}

export type { ValidationPurpose } from "@greenroom/store/AddressValidationStore"

/** The subject of a link in a mail. */
export interface AddressLink {
  readonly email: string
  readonly purpose: ValidationPurpose
  readonly nextLink: string | undefined
}

/** The path of the link in a mail. */
export const addressLinkPath = "/_greenroom/validate/email"

/** How long a link is valid, and how long a validated session is, in ms. */
const linkLifetime = 3_600_000
const sessionLifetime = 24 * 3_600_000
/** How many times a link may be read or used. */
const maxTries = 20
const sweepInterval = "10 minutes"

const actions: { readonly [purpose in ValidationPurpose]: string } = {
  registration: "register at",
  password: "set a new password at",
  account: "add this address to your account at"
}

const notValidated = new ThirdPartyIdAuthFailed({ error: "threepid_creds: the address is not validated yet" })
const expiredLink = new NotFound({ error: "The link is unknown, was used already, or has expired" })

const checkNextLink = (link: string | undefined): Effect.Effect<void, InvalidParam> =>
  link === undefined || isNextLink(link)
    ? Effect.void
    : Effect.fail(new InvalidParam({ error: "next_link: expected a URL with http or https" }))

const make = Effect.gen(function* () {
  const { identityServers = [], serverName } = yield* HomeServerConfig
  const { mail, revealAddresses = false } = yield* LoginConfig
  const store = yield* AddressValidationStore
  const identities = yield* UserIdentityStore
  const identity = yield* IdentityClient
  const mailer = yield* Mailer
  const throttle = yield* LoginThrottle

  const sql = yield* SqlClient.SqlClient
  const together = <A>(effect: Effect.Effect<A>): Effect.Effect<A> => Effect.orDie(sql.withTransaction(effect))
  const sendsMail = mail !== undefined
  const byIdentityServer = identityServers.length > 0

  const supported: ReadonlyArray<Medium> = [
    ...(sendsMail || byIdentityServer ? (["email"] as const) : []),
    ...(byIdentityServer ? (["msisdn"] as const) : [])
  ]

  const identityServer = (what: string): Effect.Effect<TrustedServer, MatrixError> =>
    byIdentityServer
      ? identity.trusted(undefined)
      : Effect.fail(new ThirdPartyIdMediumNotSupported({ error: `This server sends no ${what}` }))

  const isTaken = (of: ThirdPartyId) => Effect.map(identities.userOfAddress(of), Option.isSome)

  /**
   * The check before an identity server sends a message, which it would do for any address. Errors: M_THREEPID_IN_USE,
   * M_THREEPID_NOT_FOUND.
   */
  const checkOwner = Effect.fnUntraced(function* (purpose: ValidationPurpose, of: ThirdPartyId) {
    const taken = yield* isTaken(of)
    if (purpose === "password") {
      if (!taken) return yield* new ThirdPartyIdNotFound({ error: "No account has this address" })
    } else if (taken) return yield* new ThirdPartyIdInUse({ error: "The address belongs to an account" })
  })

  /** What a mail says: the link, or why there is none. */
  const templateFor = (purpose: ValidationPurpose, taken: boolean): TemplateName => {
    if (purpose === "password") return taken ? "login-link" : "address-unknown"
    return taken ? "address-in-use" : "login-link"
  }

  const writeTo = Effect.fnUntraced(function* (request: EmailTokenRequest, email: string, sid: string, token: string) {
    const { address, publicUrl, purpose } = request
    const taken = yield* isTaken({ medium: "email", address: email })
    const query = new URLSearchParams({ sid, token })
    yield* mailer.send(email, templateFor(purpose, taken), {
      server: serverName,
      action: `${actions[purpose]} ${serverName}`,
      minutes: String(linkLifetime / 60_000),
      address,
      url: `${publicUrl}${addressLinkPath}?${query}`
    })
  })

  const requestEmail = Effect.fn("AddressValidations.requestEmail")(function* (
    request: EmailTokenRequest
  ): Effect.fn.Return<BegunValidation, MatrixError> {
    const { address, clientSecret, nextLink, purpose, sendAttempt } = request
    const email = canonicalEmail(request.email)
    if (email === undefined) return yield* new InvalidParam({ error: "email: not an email address" })
    yield* checkNextLink(nextLink)
    yield* throttle.mail(email, address)
    if (!sendsMail) {
      const server = yield* identityServer("mails")
      yield* checkOwner(purpose, { medium: "email", address: email })
      return yield* identity.requestToken(server, "email", {
        email,
        client_secret: clientSecret,
        send_attempt: sendAttempt,
        ...(nextLink === undefined ? {} : { next_link: nextLink })
      })
    }
    if (revealAddresses) yield* checkOwner(purpose, { medium: "email", address: email })
    const token = newSecret()
    const beginning = store.begin({
      sid: randomBytes(18).toString("base64url"),
      clientSecret: Redacted.make(clientSecret),
      purpose,
      medium: "email",
      address: email,
      token: Redacted.make(token),
      sendAttempt,
      nextLink,
      expiresAt: (yield* Clock.currentTimeMillis) + linkLifetime
    })
    // Together: a client that repeats the request after a crash gets no further mail.
    const { sid } = yield* together(
      Effect.tap(beginning, ({ fresh, sid }) => (fresh ? writeTo(request, email, sid, token) : Effect.void))
    )
    return { sid }
  })

  const requestPhone = Effect.fn("AddressValidations.requestPhone")(function* (request: PhoneTokenRequest) {
    const { address, clientSecret, country, nextLink, phoneNumber, purpose, sendAttempt } = request
    const server = yield* identityServer("text messages")
    yield* checkNextLink(nextLink)
    yield* throttle.mail(`+${phoneNumber.replace(/[^0-9]/g, "")}`, address)
    // The identity server parses a number in the country's own form; the validated number is checked when it is used.
    const international = canonicalPhoneNumber(phoneNumber)
    if (international !== undefined) yield* checkOwner(purpose, { medium: "msisdn", address: international })
    const { sid } = yield* identity.requestToken(server, "msisdn", {
      phone_number: phoneNumber,
      client_secret: clientSecret,
      send_attempt: sendAttempt,
      ...(country === undefined ? {} : { country }),
      ...(nextLink === undefined ? {} : { next_link: nextLink })
    })
    return { sid, submit_url: identity.submitUrl(server, "msisdn") }
  })

  const validated = Effect.fn("AddressValidations.validated")(function* (
    proof: AddressProof,
    purpose?: ValidationPurpose
  ): Effect.fn.Return<ThirdPartyId, MatrixError> {
    const own = yield* store.findBySecret(proof.sid, Redacted.make(proof.client_secret))
    if (Option.isSome(own)) {
      const { address, medium, validatedAt } = own.value
      const serves = purpose === undefined || purpose === own.value.purpose
      return validatedAt === undefined || !serves ? yield* notValidated : { medium, address }
    }
    if (!byIdentityServer) return yield* notValidated
    const server = yield* identity.trusted(proof.id_server)
    return yield* Effect.mapError(identity.validated(server, proof), toMatrixError)
  })

  const describe = ({ address, nextLink, purpose }: Validation): AddressLink => ({ email: address, nextLink, purpose })

  const confirm = Effect.fn("AddressValidations.confirm")(function* (sid: string, token: string) {
    const expiresAt = (yield* Clock.currentTimeMillis) + sessionLifetime
    const found = yield* store.validate(sid, Redacted.make(token), expiresAt, maxTries)
    return Option.isSome(found) ? describe(found.value) : yield* expiredLink
  })

  yield* periodicallyOnce("Deleting expired validations of addresses", sweepInterval, store.removeExpired)

  return AddressValidations.of({
    media: supported,
    requestEmail,
    requestPhone,
    validated,
    link: (sid, token) =>
      Effect.flatMap(store.find(sid, Redacted.make(token), maxTries), (found) =>
        Option.isSome(found) ? Effect.succeed(describe(found.value)) : Effect.fail(expiredLink)
      ),
    confirm
  })
})

/** Validation sessions for email addresses and phone numbers, by which users prove that an address is theirs. */
export class AddressValidations extends Context.Service<
  AddressValidations,
  {
    /** The media of addresses that can be validated here. */
    readonly media: ReadonlyArray<Medium>
    /**
     * Sends a link to an email address. Errors: M_INVALID_PARAM, M_LIMIT_EXCEEDED, M_THREEPID_MEDIUM_NOT_SUPPORTED; with an
     * identity server or `revealAddresses` also M_THREEPID_IN_USE, M_THREEPID_NOT_FOUND.
     */
    readonly requestEmail: (request: EmailTokenRequest) => Effect.Effect<BegunValidation, MatrixError>
    /** Sends a code to a phone number. Errors: those of `requestEmail` with an identity server. */
    readonly requestPhone: (request: PhoneTokenRequest) => Effect.Effect<BegunValidation, MatrixError>
    /**
     * The address that a session has validated, here or at a trusted identity server. With a purpose only a session that was begun
     * for it counts. Errors: M_THREEPID_AUTH_FAILED.
     */
    readonly validated: (proof: AddressProof, purpose?: ValidationPurpose) => Effect.Effect<ThirdPartyId, MatrixError>
    /** The subject of a link in a mail. Reading it confirms nothing. Errors: M_NOT_FOUND. */
    readonly link: (sid: string, token: string) => Effect.Effect<AddressLink, MatrixError>
    /** Confirms the address. Callers: everybody who has the link. Errors: M_NOT_FOUND. */
    readonly confirm: (sid: string, token: string) => Effect.Effect<AddressLink, MatrixError>
  }
>()("greenroom/actors/AddressValidations") {
  static readonly layer = Layer.effect(AddressValidations, make).pipe(
    Layer.provide([Mailer.layer, IdentityClient.layer])
  )
}
