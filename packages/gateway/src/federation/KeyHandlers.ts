/**
 * The keys of this server, for whoever asks. The signed object is made anew every few minutes and after a rotation.
 *
 * Source: "Security" of the specification.
 */
import { makeKeyObject } from "@greenroom/actors/federation/ServerKeyObject"
import { HomeServerConfig } from "@greenroom/actors/runtime/HomeServerConfig"
import { FederationApi } from "@greenroom/protocol/federation/FederationApi"
import type { ServerKeys } from "@greenroom/protocol/federation/ServerKeys"
import * as MonotonicCache from "@greenroom/store/MonotonicCache"
import { SigningKeys } from "@greenroom/store/SigningKeys"
import { Clock, Effect } from "effect"
import { HttpApiBuilder } from "effect/http-api"

/** How old the object may be: this long after a rotation on another node the old one may still be given out. */
const freshness = "10 seconds"

export const keyHandlers = HttpApiBuilder.group(FederationApi, "keys", (handlers) =>
  Effect.gen(function* () {
    const { serverName } = yield* HomeServerConfig
    const signingKeys = yield* SigningKeys
    const objects = yield* MonotonicCache.make({
      lookup: Effect.fnUntraced(function* () {
        const published = yield* signingKeys.list
        const now = yield* Clock.currentTimeMillis
        return makeKeyObject(serverName, yield* signingKeys.current, published, now) as unknown as ServerKeys
      }),
      capacity: 1,
      timeToLive: freshness
    })
    return handlers.handle("keys", () => MonotonicCache.get(objects, serverName))
  })
)
