/**
 * The bodies of requests for keys, of clients and of other servers.
 */
import type { KeyClaim } from "@greenroom/actors/user/encryption/DeviceKeys"
import { isHistoricalUserId, isUserId, type UserId } from "@greenroom/protocol/Identifiers"
import { isJsonObject, type JsonObject } from "@greenroom/protocol/Json"
import { BadJson, InvalidParam } from "@greenroom/protocol/MatrixError"
import { isStorable } from "@greenroom/protocol/Text"
import { Effect } from "effect"

/**
 * The devices by user. Users whose IDs are of the historical grammar alone have no devices, and are left out: members of a room may have
 * such IDs, and clients name all members in one request. Errors: M_INVALID_PARAM.
 */
export const byUser = (
  name: string,
  given: JsonObject
): Effect.Effect<ReadonlyArray<readonly [UserId, unknown]>, InvalidParam> => {
  const entries = Object.entries(given)
  const wrong = entries.find(([userId]) => !isHistoricalUserId(userId))
  return wrong === undefined
    ? Effect.succeed(entries.filter(([userId]) => isUserId(userId)) as never)
    : Effect.fail(new InvalidParam({ error: `${name}: ${wrong[0].slice(0, 255)} is not a user ID` }))
}

/** The devices of each user; an empty list means all of them. Errors: M_INVALID_PARAM, M_BAD_JSON if it is no list. */
export const readQuery = Effect.fnUntraced(function* (given: JsonObject) {
  const entries = yield* byUser("device_keys", given)
  const wrong = entries.find(([, value]) => !Array.isArray(value))
  if (wrong !== undefined)
    return yield* new BadJson({ error: `device_keys: ${wrong[0]}: expected a list of device IDs` })
  const devices = (value: unknown) => (value as ReadonlyArray<unknown>).filter((entry) => typeof entry === "string")
  return new Map(entries.map(([userId, value]) => [userId, devices(value)]))
})

const isName = (text: string): boolean => text.length <= 255 && isStorable(text)

/** The keys to claim. Errors: M_INVALID_PARAM, M_BAD_JSON if there is no algorithm for a device. */
export const readClaims = Effect.fnUntraced(function* (given: JsonObject) {
  const claims: Array<KeyClaim> = []
  for (const [userId, devices] of yield* byUser("one_time_keys", given)) {
    if (!isJsonObject(devices)) return yield* new BadJson({ error: `one_time_keys: ${userId}: expected an object` })
    for (const [deviceId, algorithm] of Object.entries(devices)) {
      if (typeof algorithm !== "string") {
        return yield* new BadJson({ error: `one_time_keys: ${userId}: expected the algorithm for each device` })
      }
      if (isName(algorithm) && isName(deviceId)) claims.push({ userId, deviceId, algorithm })
    }
  }
  return claims
})
