/**
 * Keys and messages to devices, as calls of `DeviceKeys`, `ToDevice` and `DeviceLists`.
 *
 * Source: "End-to-End Encryption" and "Send-to-Device messaging" of the client-server specification.
 */
import { DeviceLists } from "@greenroom/actors/sync/DeviceLists"
import { DeviceKeys, type KeyClaim, objectText } from "@greenroom/actors/user/encryption/DeviceKeys"
import { ToDevice } from "@greenroom/actors/user/encryption/ToDevice"
import { CurrentSession } from "@greenroom/protocol/api/Authentication"
import { done } from "@greenroom/protocol/api/Body"
import { ClientServerApi } from "@greenroom/protocol/client-server/ClientServerApi"
import { isUserId, type UserId } from "@greenroom/protocol/Identifiers"
import { isJsonObject, type JsonObject } from "@greenroom/protocol/Json"
import { BadJson, InvalidParam } from "@greenroom/protocol/MatrixError"
import { Effect } from "effect"
import { HttpServerResponse } from "effect/http"
import { HttpApiBuilder } from "effect/http-api"
import { withServices } from "../client-api/EndpointServices.ts"

/** An answer that is JSON text already. */
const answerText = (text: string) => HttpServerResponse.text(text, { contentType: "application/json" })

/** What is there by user. Errors: M_INVALID_PARAM. */
const byUser = (
  name: string,
  given: JsonObject
): Effect.Effect<ReadonlyArray<readonly [UserId, unknown]>, InvalidParam> => {
  const entries = Object.entries(given)
  const wrong = entries.find(([userId]) => !isUserId(userId))
  return wrong === undefined
    ? Effect.succeed(entries as never)
    : Effect.fail(new InvalidParam({ error: `${name}: ${wrong[0].slice(0, 255)} is no user ID` }))
}

const readQuery = (given: JsonObject) =>
  Effect.map(byUser("device_keys", given), (entries) => {
    const devices = (value: unknown) => (Array.isArray(value) ? value.filter((each) => typeof each === "string") : [])
    return new Map(entries.map(([userId, value]) => [userId, devices(value)]))
  })

const isText = (text: unknown): text is string =>
  typeof text === "string" && text.isWellFormed() && !text.includes("\0") && text.length <= 255

const readClaims = Effect.fnUntraced(function* (given: JsonObject) {
  const claims: Array<KeyClaim> = []
  for (const [userId, devices] of yield* byUser("one_time_keys", given)) {
    for (const [deviceId, algorithm] of Object.entries(isJsonObject(devices) ? devices : {})) {
      if (isText(algorithm) && isText(deviceId)) claims.push({ userId, deviceId, algorithm })
    }
  }
  return claims
})

const readMessages = Effect.fnUntraced(function* (given: JsonObject) {
  const messages = new Map<UserId, JsonObject>()
  for (const [userId, devices] of yield* byUser("messages", given)) {
    if (!isJsonObject(devices)) return yield* new BadJson({ error: `messages: ${userId}: expected an object` })
    messages.set(userId, devices)
  }
  return messages
})

export const encryptionHandlers = HttpApiBuilder.group(ClientServerApi, "clientServer.encryption", (handlers) =>
  withServices(function* () {
    const keys = yield* DeviceKeys
    const lists = yield* DeviceLists
    const toDevice = yield* ToDevice

    return handlers
      .handle("upload", ({ payload }) =>
        CurrentSession.use((session) =>
          Effect.map(
            keys.upload(session, {
              device_keys: payload.device_keys ?? undefined,
              one_time_keys: payload.one_time_keys ?? undefined,
              fallback_keys: payload.fallback_keys ?? payload["org.matrix.msc2732.fallback_keys"] ?? undefined
            }),
            ({ oneTime }) => ({ one_time_key_counts: { signed_curve25519: 0, ...oneTime } })
          )
        )
      )
      .handle("query", ({ payload }) =>
        Effect.gen(function* () {
          const found = yield* keys.query(yield* readQuery(payload.device_keys))
          return answerText(
            objectText([
              ["device_keys", objectText(found)],
              ["failures", "{}"]
            ])
          )
        })
      )
      .handle("claim", ({ payload }) =>
        Effect.gen(function* () {
          const claimed = yield* keys.claim(yield* readClaims(payload.one_time_keys))
          return answerText(
            objectText([
              ["one_time_keys", claimed],
              ["failures", "{}"]
            ])
          )
        })
      )
      .handle("changes", ({ query }) =>
        CurrentSession.use((session) =>
          Effect.map(lists.changes(session, query.from, query.to), (news) => HttpServerResponse.jsonUnsafe(news))
        )
      )
      .handle("sendToDevice", ({ params, payload }) =>
        CurrentSession.use((session) =>
          Effect.gen(function* () {
            const messages = yield* readMessages(payload.messages)
            yield* toDevice.send(session, { type: params.eventType, txnId: params.txnId, messages })
            return done
          })
        )
      )
  })
)
