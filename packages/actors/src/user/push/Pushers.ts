/**
 * The pushers of users: where they want to be told of notifications (`PushDelivery` does so).
 *
 * Source: "Push notifications" of the client-server specification.
 */
import type { JsonObject } from "@greenroom/protocol/Json"
import {
  BadRequest,
  InvalidParam,
  type MatrixError,
  MissingParam,
  ResourceLimitExceeded
} from "@greenroom/protocol/MatrixError"
import { EventLog } from "@greenroom/store/EventLog"
import { type PusherKind, PusherStore, type StoredPusher } from "@greenroom/store/PusherStore"
import { Clock, Context, Effect, Layer } from "effect"
import type { Session } from "../../runtime/Session.ts"
import { checkPushUrl, PushGateway } from "./PushGateway.ts"

/** The most pushers of one user. */
const maxPushers = 100

/** What a client says of a pusher. */
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

const toPusher = ({ appId, description, kind, pushkey }: StoredPusher): JsonObject => ({
  app_id: appId,
  pushkey,
  kind,
  ...description
})

const make = Effect.gen(function* () {
  const store = yield* PusherStore
  const log = yield* EventLog
  const { policy } = yield* PushGateway

  const kindOf = (request: PusherRequest): Effect.Effect<PusherKind, MatrixError> => {
    const missing = required.filter((key) => request[key] === undefined)
    if (missing.length > 0) return Effect.fail(new MissingParam({ error: `Missing parameters: ${missing.join(", ")}` }))
    if (request.kind !== "http") return Effect.fail(new InvalidParam({ error: "kind: must be http or null" }))
    const wrong = checkPushUrl(request.data?.url, policy)
    return wrong === undefined ? Effect.succeed("http") : Effect.fail(new InvalidParam({ error: `data.url: ${wrong}` }))
  }

  const set = Effect.fn("Pushers.set")(function* (
    session: Session,
    request: PusherRequest
  ): Effect.fn.Return<void, MatrixError> {
    const { append = false, app_id, kind: _, pushkey, ...description } = request
    const { deviceId, userId } = session
    if (request.kind === null) return yield* store.remove(userId, app_id, pushkey)
    const kind = yield* kindOf(request)
    if (!pushkey.isWellFormed() || pushkey.includes("\0"))
      return yield* new BadRequest({ error: "pushkey: must be Unicode" })
    const pusher = { userId, deviceId, appId: app_id, pushkey, kind, setAt: yield* Clock.currentTimeMillis }
    const isSet = yield* store.set({ ...pusher, description: description as JsonObject }, yield* log.currentPosition, {
      alone: !append,
      most: maxPushers
    })
    if (!isSet) return yield* new ResourceLimitExceeded({ error: `A user has at most ${maxPushers} pushers` })
  })

  return Pushers.of({
    set,
    list: ({ userId }) => Effect.map(store.list([userId]), (pushers) => pushers.map(toPusher))
  })
})

export class Pushers extends Context.Service<
  Pushers,
  {
    readonly list: (session: Session) => Effect.Effect<ReadonlyArray<JsonObject>>
    /**
     * Makes, changes or removes a pusher. Errors: M_MISSING_PARAM, M_INVALID_PARAM for a kind or URL that cannot be used,
     * M_RESOURCE_LIMIT_EXCEEDED.
     */
    readonly set: (session: Session, request: PusherRequest) => Effect.Effect<void, MatrixError>
  }
>()("greenroom/actors/Pushers") {
  static readonly layer = Layer.effect(Pushers, make)
}
