/**
 * The sessions of application services: with its `as_token` a service acts as its own user, or as one of the users in its
 * namespace, and may say when its events were made.
 *
 * Source: "Identity assertion" and "Timestamp massaging" of the application service API.
 */
import { isUserId, type UserId } from "@greenroom/protocol/Identifiers"
import { Forbidden, InvalidParam, type MatrixError, UnknownDevice } from "@greenroom/protocol/MatrixError"
import { AccountStore } from "@greenroom/store/AccountStore"
import { AppServiceStore, noDevice } from "@greenroom/store/AppServiceStore"
import * as MonotonicCache from "@greenroom/store/MonotonicCache"
import { Context, Effect, Layer } from "effect"
import type { Session } from "../runtime/Session.ts"
import { SessionRevocations } from "../runtime/SessionRevocations.ts"
import { AppServiceBackOff } from "./AppServiceBackOff.ts"
import { type AppService, AppServices } from "./AppServices.ts"

/** The caller of a request, by its token and parameters. */
export interface Assertion {
  readonly userId?: string | undefined
  readonly deviceId?: string | undefined
  /** Milliseconds since 1970, as text. */
  readonly ts?: string | undefined
}

/** How many sessions are remembered, and for how long. The end of a session reaches every node at once (`SessionRevocations`). */
const maxRemembered = 10_000
const rememberedFor = "1 minute"

const toTimestamp = (text: string): Effect.Effect<number, InvalidParam> =>
  /^[0-9]{1,15}$/.test(text)
    ? Effect.succeed(Number(text))
    : Effect.fail(new InvalidParam({ error: "ts: expected milliseconds since 1970" }))

const make = Effect.gen(function* () {
  const services = yield* AppServices
  const backOff = yield* AppServiceBackOff
  const accounts = yield* AccountStore
  const store = yield* AppServiceStore
  const revocations = yield* SessionRevocations

  // The services' own users need no registration.
  yield* Effect.forEach(services.all, ({ sender }) => Effect.ignore(accounts.create(sender, {})), { discard: true })

  const tokenIds = yield* MonotonicCache.makeWith(
    (key: string): Effect.Effect<number, MatrixError> => {
      const [serviceId, userId, deviceId] = JSON.parse(key) as [string, UserId, string | null]
      return Effect.flatMap(
        store.tokenId(serviceId, userId, deviceId ?? undefined),
        (tokenId): Effect.Effect<number, MatrixError> => {
          if (tokenId === "account") {
            return Effect.fail(
              new Forbidden({ error: `user_id: ${userId} is not registered by the application service` })
            )
          }
          return tokenId === "device"
            ? Effect.fail(new UnknownDevice({ error: `device_id: ${userId} has no device ${deviceId}` }))
            : Effect.succeed(tokenId)
        }
      )
    },
    { capacity: maxRemembered, timeToLive: (exit) => (exit._tag === "Success" ? rememberedFor : 0) }
  )
  /** Grows when ends of sessions may have been missed: nothing that was remembered before is believed. */
  let generation = 0
  yield* revocations.cache((ended) => {
    if (ended === undefined) generation += 1
  })

  const sessionOf: AppServiceSessions["Service"]["sessionOf"] = Effect.fnUntraced(function* (
    service,
    { deviceId, ts, userId = service.sender }
  ) {
    yield* backOff.heardFrom(service.id)
    if (!isUserId(userId) || !service.hasUser(userId)) {
      return yield* new Forbidden({ error: `user_id: the application service cannot act as ${userId.slice(0, 255)}` })
    }
    const key = JSON.stringify([service.id, userId, deviceId, generation])
    if (!revocations.isTrusted()) yield* MonotonicCache.invalidate(tokenIds, key)
    const remembered = yield* MonotonicCache.get(tokenIds, key)
    const session = { userId, deviceId: deviceId ?? noDevice(service.id), appService: service.id }
    const isOver = revocations.isOver({ ...session, tokenId: remembered })
    // The account was deactivated or the device ended since, and may be there again.
    if (isOver) yield* MonotonicCache.invalidate(tokenIds, key)
    const tokenId = isOver ? yield* MonotonicCache.get(tokenIds, key) : remembered
    const at = ts === undefined ? undefined : yield* toTimestamp(ts)
    return { ...session, tokenId, ...(at === undefined ? {} : { at }) } satisfies Session
  })

  return AppServiceSessions.of({ sessionOf })
})

/** Sessions of the users of an application service, by its `as_token`. */
export class AppServiceSessions extends Context.Service<
  AppServiceSessions,
  {
    /**
     * Errors: M_FORBIDDEN for users outside the namespaces, or without an account; M_UNKNOWN_DEVICE for a device that is not theirs;
     * M_INVALID_PARAM.
     */
    readonly sessionOf: (service: AppService, assertion: Assertion) => Effect.Effect<Session, MatrixError>
  }
>()("greenroom/actors/AppServiceSessions") {
  static readonly layer = Layer.effect(AppServiceSessions, make)
}
