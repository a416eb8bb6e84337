/**
 * Keys and messages to devices, as calls of `DeviceKeys`, `ToDevice` and `DeviceLists`.
 *
 * Source: "End-to-End Encryption" and "Send-to-Device messaging" of the client-server specification.
 */
import { InteractiveAuth } from "@greenroom/actors/account/InteractiveAuth"
import { PublicUrl } from "@greenroom/actors/runtime/PublicUrl"
import type { Session } from "@greenroom/actors/runtime/Session"
import { DeviceLists } from "@greenroom/actors/sync/DeviceLists"
import { CrossSigning } from "@greenroom/actors/user/encryption/CrossSigning"
import { DeviceKeys, objectText } from "@greenroom/actors/user/encryption/DeviceKeys"
import { RemoteDeviceKeys } from "@greenroom/actors/user/encryption/RemoteDeviceKeys"
import { ToDevice } from "@greenroom/actors/user/encryption/ToDevice"
import { CurrentSession } from "@greenroom/protocol/api/Authentication"
import { done } from "@greenroom/protocol/api/Body"
import { ClientServerApi } from "@greenroom/protocol/client-server/ClientServerApi"
import type { UserId } from "@greenroom/protocol/Identifiers"
import { isJsonObject, type JsonObject } from "@greenroom/protocol/Json"
import { BadJson } from "@greenroom/protocol/MatrixError"
import { Effect } from "effect"
import { HttpServerResponse } from "effect/http"
import { HttpApiBuilder } from "effect/http-api"
import { withServices } from "../client-api/EndpointServices.ts"
import { jsonText } from "../JsonAnswer.ts"
import { paths } from "../oauth/OAuthForms.ts"
import { addressOf } from "../TrustedProxies.ts"
import { answerInteraction } from "./Interaction.ts"
import { byUser, readClaims, readQuery } from "./KeyRequests.ts"

/** An object for each user. Errors: M_INVALID_PARAM, M_BAD_JSON. */
const readObjects = Effect.fnUntraced(function* (name: string, given: JsonObject) {
  const objects = new Map<UserId, JsonObject>()
  for (const [userId, ofUser] of yield* byUser(name, given)) {
    if (!isJsonObject(ofUser)) return yield* new BadJson({ error: `${name}: ${userId}: expected an object` })
    objects.set(userId, ofUser)
  }
  return objects
})

/** The members of two objects as JSON text. */
const joinObjects = (text: string, more: string): string => {
  if (more === "{}") return text
  return text === "{}" ? more : `${text.slice(0, -1)},${more.slice(1)}`
}

export const encryptionHandlers = HttpApiBuilder.group(ClientServerApi, "clientServer.encryption", (handlers) =>
  withServices(function* () {
    const keys = yield* DeviceKeys
    const crossSigning = yield* CrossSigning
    const interactive = yield* InteractiveAuth
    const remoteKeys = yield* RemoteDeviceKeys
    const lists = yield* DeviceLists
    const toDevice = yield* ToDevice
    const publicUrl = yield* PublicUrl

    /** The page on which the user of a client of the OAuth 2.0 API approves a reset of the keys. */
    const approvalParams = ({ clientId }: Session): JsonObject => {
      if (clientId === undefined) return {}
      const url = `${publicUrl.get()}${paths.account}?action=org.matrix.cross_signing_reset`
      return { "m.oauth": { url }, "org.matrix.cross_signing_reset": { url } }
    }

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
            const remote = yield* remoteKeys.query(userId, wanted, payload.timeout)
            return jsonText(
              objectText([
                ["device_keys", joinObjects(objectText(found), remote.device_keys)],
                ["master_keys", joinObjects(signing.master_keys, remote.master_keys)],
                ["self_signing_keys", joinObjects(signing.self_signing_keys, remote.self_signing_keys)],
                ["user_signing_keys", signing.user_signing_keys],
                ["failures", remote.failures]
              ])
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
                flows: yield* interactive.keysResetFlowsOf(session),
                params: approvalParams(session)
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
        CurrentSession.use(({ userId }) =>
          Effect.gen(function* () {
            const claims = yield* readClaims(payload.one_time_keys)
            // Other servers may be slow: what is claimed here is not in memory meanwhile.
            const remote = yield* remoteKeys.claim(userId, claims, payload.timeout)
            const claimed = yield* keys.claim(claims)
            return jsonText(
              objectText([
                ["one_time_keys", joinObjects(claimed, remote.one_time_keys)],
                ["failures", remote.failures]
              ])
            )
          })
        )
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
