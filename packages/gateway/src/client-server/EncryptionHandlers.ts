/**
 * Keys and messages to devices, as calls of `DeviceKeys`, `ToDevice` and `DeviceLists`.
 *
 * Source: "End-to-End Encryption" and "Send-to-Device messaging" of the client-server specification.
 */
import { InteractiveAuth } from "@greenroom/actors/account/InteractiveAuth"
import type { Session } from "@greenroom/actors/runtime/Session"
import { DeviceLists } from "@greenroom/actors/sync/DeviceLists"
import { CrossSigning } from "@greenroom/actors/user/encryption/CrossSigning"
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
import { addressOf } from "../TrustedProxies.ts"
import { answerInteraction } from "./Interaction.ts"

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

/** An object for each user. Errors: M_INVALID_PARAM, M_BAD_JSON. */
const readObjects = Effect.fnUntraced(function* (name: string, given: JsonObject) {
  const objects = new Map<UserId, JsonObject>()
  for (const [userId, ofUser] of yield* byUser(name, given)) {
    if (!isJsonObject(ofUser)) return yield* new BadJson({ error: `${name}: ${userId}: expected an object` })
    objects.set(userId, ofUser)
  }
  return objects
})

export const encryptionHandlers = HttpApiBuilder.group(ClientServerApi, "clientServer.encryption", (handlers) =>
  withServices(function* () {
    const keys = yield* DeviceKeys
    const crossSigning = yield* CrossSigning
    const interactive = yield* InteractiveAuth
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
        CurrentSession.use(({ userId }) =>
          Effect.gen(function* () {
            const wanted = yield* readQuery(payload.device_keys)
            const found = yield* keys.query(wanted)
            const signing = yield* crossSigning.query(userId, [...found.keys()])
            return answerText(
              objectText([["device_keys", objectText(found)], ...Object.entries(signing), ["failures", "{}"]])
            )
          })
        )
      )
      .handle("deviceSigning", ({ payload, request }) =>
        CurrentSession.use((session: Session) =>
          answerInteraction(
            Effect.gen(function* () {
              const { auth, ...given } = payload
              const upload = {
                master_key: given.master_key ?? undefined,
                self_signing_key: given.self_signing_key ?? undefined,
                user_signing_key: given.user_signing_key ?? undefined
              }
              if (yield* crossSigning.upload(session, upload, session.appService !== undefined)) return done
              const { finish } = yield* interactive.authorise({
                operation: "POST /keys/device_signing/upload",
                session,
                auth,
                address: addressOf(request),
                flows: yield* interactive.flowsOf(session)
              })
              yield* finish
              yield* crossSigning.upload(session, upload, true)
              return done
            })
          )
        )
      )
      .handle("signatures", ({ payload }) =>
        CurrentSession.use((session) =>
          Effect.gen(function* () {
            const failures = yield* crossSigning.sign(session, yield* readObjects("signatures", payload))
            return { failures }
          })
        )
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
            const messages = yield* readObjects("messages", payload.messages)
            yield* toDevice.send(session, { type: params.eventType, txnId: params.txnId, messages })
            return done
          })
        )
      )
  })
)
