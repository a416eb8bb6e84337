/**
 * The pushers of users: the destinations of their notifications (`PushDelivery` sends them).
 *
 * Source: "Push notifications" of the client-server specification.
 */
import type { UserId } from "@greenroom/protocol/Identifiers"
import { canonicalEmail } from "@greenroom/protocol/identity/ThirdPartyId"
import type { JsonObject } from "@greenroom/protocol/Json"
import {
  BadRequest,
  InvalidParam,
  type MatrixError,
  MissingParam,
  NotFound,
  ThirdPartyIdNotFound,
  TooLarge,
  UserLimitExceeded
} from "@greenroom/protocol/MatrixError"
import { isStorable } from "@greenroom/protocol/Text"
import { EventLog } from "@greenroom/store/EventLog"
import { type PusherKind, PusherStore, type StoredPusher } from "@greenroom/store/PusherStore"
import { UserIdentityStore } from "@greenroom/store/UserIdentityStore"
import { Clock, Context, Effect, Layer, Option } from "effect"
import type { Session } from "../../runtime/Session.ts"
import { NotificationMailer } from "./NotificationMailer.ts"
import { checkPushUrl, PushGateway } from "./PushGateway.ts"
import { makeUnsubscription } from "./Unsubscription.ts"

/** The most pushers of one user, and the most that one may say of itself, in characters of JSON. */
const maxPushers = 100
const maxDescription = 16_384

/** The client's definition of a pusher. */
export interface PusherRequest {
  readonly app_id: string
  readonly pushkey: string
  /** Null removes the pusher. */
  readonly kind: string | null
  readonly app_display_name?: string | undefined
  readonly device_display_name?: string | undefined
  readonly profile_tag?: string | undefined
  readonly lang?: string | undefined
  readonly data?: JsonObject | undefined
  readonly append?: boolean | undefined
}

const required = ["app_display_name", "device_display_name", "lang", "data"] as const

const unknownLink = new NotFound({ error: "The link is unknown, or the mails have ended" })

const toPusher = ({ appId, description, kind, pushkey }: StoredPusher): JsonObject => ({
  app_id: appId,
  pushkey,
  kind,
  ...description
})

const make = Effect.gen(function* () {
  const store = yield* PusherStore
  const log = yield* EventLog
  const identities = yield* UserIdentityStore
  const sendsMail = (yield* NotificationMailer).isConfigured
  const { policy } = yield* PushGateway
  const { pusherOf } = yield* makeUnsubscription

  const kindOf = (request: PusherRequest): Effect.Effect<PusherKind, MatrixError> => {
    const missing = required.filter((key) => request[key] === undefined)
    if (missing.length > 0) return Effect.fail(new MissingParam({ error: `Missing parameters: ${missing.join(", ")}` }))
    if (request.kind === "email" && sendsMail) return Effect.succeed("email")
    if (request.kind !== "http") {
      return Effect.fail(new InvalidParam({ error: `kind: must be http${sendsMail ? ", email" : ""} or null` }))
    }
    const wrong = checkPushUrl(request.data?.url, policy)
    return wrong === undefined ? Effect.succeed("http") : Effect.fail(new InvalidParam({ error: `data.url: ${wrong}` }))
  }

  /** The address in canonical form, which must be the user's. */
  const ownAddress = Effect.fnUntraced(function* (userId: UserId, pushkey: string) {
    const address = canonicalEmail(pushkey)
    const owner = address === undefined ? Option.none() : yield* identities.userOfAddress({ medium: "email", address })
    if (address === undefined || !Option.contains(owner, userId)) {
      return yield* new ThirdPartyIdNotFound({ error: "pushkey: must be an email address of the account" })
    }
    return address
  })

  const subscribed = Effect.fnUntraced(function* (token: string) {
    const pusherId = pusherOf(token)
    const found = pusherId === undefined ? Option.none() : yield* store.find(pusherId)
    return Option.isSome(found) && found.value.kind === "email" ? found.value : yield* unknownLink
  })

  const set = Effect.fn("Pushers.set")(function* (
    session: Session,
    request: PusherRequest
  ): Effect.fn.Return<void, MatrixError> {
    const { append = false, app_id, kind: _, ...description } = request
    const { deviceId, userId } = session
    if (request.kind === null) {
      const keys = new Set([request.pushkey, canonicalEmail(request.pushkey) ?? request.pushkey])
      return yield* Effect.forEach(keys, (key) => store.remove(userId, app_id, key), { discard: true })
    }
    const kind = yield* kindOf(request)
    const pushkey = kind === "email" ? yield* ownAddress(userId, request.pushkey) : request.pushkey
    if (!isStorable(pushkey)) return yield* new BadRequest({ error: "pushkey: must be Unicode" })
    if (JSON.stringify(description).length > maxDescription) {
      return yield* new TooLarge({ error: `A pusher has at most ${maxDescription} characters` })
    }
    const pusher = { userId, deviceId, appId: app_id, pushkey, kind, setAt: yield* Clock.currentTimeMillis }
    const now = yield* Effect.andThen(log.caughtUp, log.currentPosition)
    const isSet = yield* store.set({ ...pusher, description: description as JsonObject }, now, {
      alone: !append,
      most: maxPushers
    })
    if (!isSet) return yield* new UserLimitExceeded({ error: `A user has at most ${maxPushers} pushers` })
  })

  return Pushers.of({
    set,
    list: ({ userId }) => Effect.map(store.list([userId]), (pushers) => pushers.map(toPusher)),
    subscription: (token) => Effect.map(subscribed(token), ({ pushkey, userId }) => ({ email: pushkey, userId })),
    unsubscribe: (token) =>
      Effect.flatMap(subscribed(token), ({ appId, pushkey, userId }) => store.remove(userId, appId, pushkey))
  })
})

/** The pushers of users. */
export class Pushers extends Context.Service<
  Pushers,
  {
    /** The pushers of the user, as `GET /pushers` answers. */
    readonly list: (session: Session) => Effect.Effect<ReadonlyArray<JsonObject>>
    /**
     * Makes, changes or removes a pusher. Errors: M_MISSING_PARAM, M_INVALID_PARAM for a kind or URL that cannot be used,
     * M_THREEPID_NOT_FOUND for an address that is not the user's, M_TOO_LARGE, M_USER_LIMIT_EXCEEDED.
     */
    readonly set: (session: Session, request: PusherRequest) => Effect.Effect<void, MatrixError>
    /** The pusher whose mails a link in one of them ends. Errors: M_NOT_FOUND. */
    readonly subscription: (
      token: string
    ) => Effect.Effect<{ readonly email: string; readonly userId: UserId }, NotFound>
    /** Ends the mails of the pusher. Errors: M_NOT_FOUND. */
    readonly unsubscribe: (token: string) => Effect.Effect<void, NotFound>
  }
>()("greenroom/actors/Pushers") {
  static readonly layer = Layer.effect(Pushers, make)
}
