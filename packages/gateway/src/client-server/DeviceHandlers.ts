/**
 * Devices and the end of the account, as calls of `Accounts` behind `InteractiveAuth`.
 *
 * Source: "Device Management" and "Account management" of the client-server specification.
 */
import { createHash } from "node:crypto"
import { Accounts } from "@greenroom/actors/account/Accounts"
import type { Device } from "@greenroom/actors/account/Credentials"
import { InteractiveAuth } from "@greenroom/actors/account/InteractiveAuth"
import type { AuthData } from "@greenroom/actors/account/InteractiveRequest"
import { ThirdPartyIds } from "@greenroom/actors/identity/ThirdPartyIds"
import type { Session } from "@greenroom/actors/runtime/Session"
import { DeviceKeys } from "@greenroom/actors/user/encryption/DeviceKeys"
import { CurrentSession } from "@greenroom/protocol/api/Authentication"
import { done } from "@greenroom/protocol/api/Body"
import { ClientServerApi } from "@greenroom/protocol/client-server/ClientServerApi"
import { NotFound } from "@greenroom/protocol/MatrixError"
import { Effect } from "effect"
import { type HttpServerRequest, HttpServerResponse } from "effect/http"
import { HttpApiBuilder } from "effect/http-api"
import { withServices } from "../client-api/EndpointServices.ts"
import { Sockets } from "../socket/Sockets.ts"
import { addressOf } from "../TrustedProxies.ts"
import { answerInteraction } from "./Interaction.ts"
import { unbindResult } from "./ThirdPartyIdHandlers.ts"

/** The operation is stored with its session: a list of devices may have a megabyte. */
const digestOf = (deviceIds: ReadonlyArray<string>): string =>
  createHash("sha256").update(JSON.stringify(deviceIds)).digest("base64url")

const created = HttpServerResponse.jsonUnsafe({}, { status: 201 })

const noSuchDevice = new NotFound({ error: "There is no such device" })

export const deviceHandlers = HttpApiBuilder.group(ClientServerApi, "clientServer.devices", (handlers) =>
  withServices(function* () {
    const accounts = yield* Accounts
    const interactive = yield* InteractiveAuth
    const thirdPartyIds = yield* ThirdPartyIds
    const sockets = yield* Sockets
    const deviceKeys = yield* DeviceKeys

    /** matrix-nio cannot read a list in which a device has no name, so a missing name is sent as an empty one. */
    const toClient = (device: Device, { userId }: Session) => ({ display_name: "", ...device, user_id: userId })

    /** Runs `act` once the user has authenticated again. */
    const confirmed = <A, E>(
      operation: string,
      request: HttpServerRequest.HttpServerRequest,
      auth: AuthData | undefined,
      act: (session: Session) => Effect.Effect<A, E>,
      needsNobody: (session: Session) => boolean = () => false
    ) =>
      CurrentSession.use((session) =>
        answerInteraction(
          Effect.gen(function* () {
            if (needsNobody(session)) return yield* act(session)
            const flows = yield* interactive.flowsOf(session)
            const address = addressOf(request)
            const { finish } = yield* interactive.authorise({ operation, session, auth, address, flows })
            yield* finish
            return yield* act(session)
          })
        )
      )

    /** Application services cannot complete interactive authentication. They manage devices and accounts of their users without it. */
    const isAppService = ({ appService }: Session): boolean => appService !== undefined

    const closeTokens = (tokenIds: ReadonlyArray<number>) =>
      Effect.forEach(tokenIds, sockets.closeToken, { discard: true })

    /** Leaves out the devices that do not exist. */
    const logOut = ({ userId }: Session, deviceIds: ReadonlyArray<string>) =>
      accounts
        .logoutDevices(userId, deviceIds)
        .pipe(Effect.flatMap(closeTokens), Effect.andThen(deviceKeys.changed), Effect.as(done))

    return handlers
      .handle("list", () =>
        CurrentSession.use((session) =>
          Effect.map(accounts.devices(session), (devices) => ({
            devices: devices.map((device) => toClient(device, session))
          }))
        )
      )
      .handle("get", ({ params }) =>
        CurrentSession.use((session) =>
          Effect.flatMap(accounts.devices(session), (devices) => {
            const device = devices.find(({ device_id }) => device_id === params.deviceId)
            return device === undefined ? Effect.fail(noSuchDevice) : Effect.succeed(toClient(device, session))
          })
        )
      )
      .handle("rename", ({ params: { deviceId }, payload }) =>
        CurrentSession.use((session) =>
          Effect.gen(function* () {
            const { userId } = session
            const name = payload.display_name ?? undefined
            const devices = yield* accounts.devices(session)
            const isThere = devices.some(({ device_id }) => device_id === deviceId)
            // An application service creates a device of its users by updating it.
            if (!isThere && isAppService(session)) {
              yield* accounts.openSession(userId, { deviceId, ...(name === undefined ? {} : { deviceName: name }) })
              return created
            }
            if (!isThere) return yield* noSuchDevice
            if (name !== undefined) {
              yield* accounts.renameDevice(userId, deviceId, name)
              yield* deviceKeys.changed
            }
            return done
          })
        )
      )
      .handle("delete", ({ params, payload, request }) =>
        confirmed(
          `DELETE /devices/${params.deviceId}`,
          request,
          payload?.auth,
          (session) => logOut(session, [params.deviceId]),
          isAppService
        )
      )
      .handle("deleteMany", ({ payload, request }) =>
        confirmed(
          `POST /delete_devices ${digestOf(payload.devices)}`,
          request,
          payload.auth,
          (session) => logOut(session, payload.devices),
          isAppService
        )
      )
      .handle("deactivate", ({ payload, request }) =>
        confirmed(
          "POST /account/deactivate",
          request,
          payload?.auth,
          (session) =>
            Effect.gen(function* () {
              const bindings = yield* thirdPartyIds.bindings(session, undefined, payload?.id_server ?? undefined)
              yield* accounts.unregister(session, payload?.erase ?? false)
              yield* sockets.closeUser(session.userId)
              return unbindResult(yield* thirdPartyIds.withdraw(session, bindings))
            }),
          isAppService
        )
      )
  })
)
