/**
 * Keys of devices of our users for other home servers, as calls of `DeviceKeys` and `CrossSigning`.
 *
 * Source: "End-to-End Encryption" and "Device Management" of the server-server specification.
 */

import { HomeServerConfig } from "@greenroom/actors/runtime/HomeServerConfig"
import { CrossSigning } from "@greenroom/actors/user/encryption/CrossSigning"
import { DeviceKeys, objectText } from "@greenroom/actors/user/encryption/DeviceKeys"
import { SignedRequest } from "@greenroom/protocol/federation/OriginAuthentication"
import { serverNameOf } from "@greenroom/protocol/Identifiers"
import { isJsonObject, type Json } from "@greenroom/protocol/Json"
import { BadJson, NotFound } from "@greenroom/protocol/MatrixError"
import { ServerServerApi } from "@greenroom/protocol/server-server/ServerServerApi"
import { Effect } from "effect"
import { HttpApiBuilder } from "effect/http-api"
import { readClaims, readQuery } from "../client-server/KeyRequests.ts"
import { objectOf } from "../federation/FederationHandlers.ts"
import { jsonText } from "../JsonAnswer.ts"

const objectIn = (name: string, value: Json | undefined) =>
  isJsonObject(value) ? Effect.succeed(value) : Effect.fail(new BadJson({ error: `${name}: expected an object` }))

export const encryptionFederationHandlers = HttpApiBuilder.group(
  ServerServerApi,
  "serverServer.encryption",
  (handlers) =>
    Effect.gen(function* () {
      const { serverName } = yield* HomeServerConfig
      const keys = yield* DeviceKeys
      const crossSigning = yield* CrossSigning

      return handlers
        .handleRaw("devices", ({ params: { userId } }) =>
          Effect.gen(function* () {
            if (serverNameOf(userId) !== serverName)
              return yield* new NotFound({ error: `${userId} is not a user of this server` })
            const { devices, streamId } = yield* keys.devicesOf(userId)
            const { master_keys, self_signing_keys } = yield* crossSigning.query(undefined, [userId])
            const own = (text: string) => JSON.stringify(JSON.parse(text)[userId])
            return jsonText(
              objectText([
                ["user_id", JSON.stringify(userId)],
                ["stream_id", String(streamId)],
                ["devices", devices],
                ...(master_keys === "{}" ? [] : [["master_key", own(master_keys)] as const]),
                ...(self_signing_keys === "{}" ? [] : [["self_signing_key", own(self_signing_keys)] as const])
              ])
            )
          })
        )
        .handleRaw("queryKeys", () =>
          SignedRequest.use(({ content }) =>
            Effect.gen(function* () {
              const body = yield* objectOf(content)
              const found = yield* keys.query(yield* readQuery(yield* objectIn("device_keys", body.device_keys)))
              const { master_keys, self_signing_keys } = yield* crossSigning.query(undefined, [...found.keys()])
              return jsonText(
                objectText([
                  ["device_keys", objectText(found)],
                  ["master_keys", master_keys],
                  ["self_signing_keys", self_signing_keys]
                ])
              )
            })
          )
        )
        .handleRaw("claimKeys", () =>
          SignedRequest.use(({ content }) =>
            Effect.gen(function* () {
              const body = yield* objectOf(content)
              const claims = yield* readClaims(yield* objectIn("one_time_keys", body.one_time_keys))
              return jsonText(objectText([["one_time_keys", yield* keys.claim(claims)]]))
            })
          )
        )
    })
)
