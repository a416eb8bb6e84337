/**
 * Dehydrated devices, as calls of `DehydratedDevices`.
 *
 * Source: MSC3814.
 */
import { DehydratedDevices } from "@greenroom/actors/account/DehydratedDevices"
import { CurrentSession } from "@greenroom/protocol/api/Authentication"
import { ClientServerApi } from "@greenroom/protocol/client-server/ClientServerApi"
import { Effect } from "effect"
import { HttpServerResponse } from "effect/http"
import { HttpApiBuilder } from "effect/http-api"
import { withServices } from "../client-api/EndpointServices.ts"

export const dehydratedDeviceHandlers = HttpApiBuilder.group(
  ClientServerApi,
  "clientServer.dehydratedDevice",
  (handlers) =>
    withServices(function* () {
      const devices = yield* DehydratedDevices
      return handlers
        .handle("put", ({ payload }) =>
          CurrentSession.use((session) =>
            Effect.as(
              devices.put(session, {
                deviceId: payload.device_id,
                data: payload.device_data,
                name: payload.initial_device_display_name ?? undefined,
                device_keys: payload.device_keys,
                one_time_keys: payload.one_time_keys ?? undefined,
                fallback_keys: payload.fallback_keys ?? undefined
              }),
              { device_id: payload.device_id }
            )
          )
        )
        .handle("get", () =>
          CurrentSession.use((session) =>
            Effect.map(devices.find(session), ({ data, deviceId }) => ({ device_id: deviceId, device_data: data }))
          )
        )
        .handle("remove", () =>
          CurrentSession.use((session) => Effect.map(devices.remove(session), (device_id) => ({ device_id })))
        )
        .handle("events", ({ params, query }) =>
          CurrentSession.use((session) =>
            Effect.map(devices.read(session, params.deviceId, query.from), ({ events, isLast, nextBatch }) =>
              HttpServerResponse.jsonUnsafe({ events, ...(isLast ? {} : { next_batch: nextBatch }) })
            )
          )
        )
        .handle("eventsByBody", ({ params, payload }) =>
          CurrentSession.use((session) =>
            // Clients of the older form read on until there are no events.
            Effect.map(devices.read(session, params.deviceId, payload?.next_batch ?? undefined), (read) =>
              HttpServerResponse.jsonUnsafe({ events: read.events, next_batch: read.nextBatch })
            )
          )
        )
    })
)
