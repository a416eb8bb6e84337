/**
 * Dehydrated devices: a device without a client, at most one for each user. It receives messages with keys while the user is not
 * logged in. The next client of the user reads them.
 *
 * Its access token is given to no client.
 *
 * Source: MSC3814.
 */
import type { JsonObject } from "@greenroom/protocol/Json"
import { Forbidden, InvalidParam, type MatrixError, NotFound, TooLarge } from "@greenroom/protocol/MatrixError"
import { type DehydratedDevice, DehydratedDeviceStore } from "@greenroom/store/DehydratedDeviceStore"
import { EventLog } from "@greenroom/store/EventLog"
import { beginning } from "@greenroom/store/StreamToken"
import { ToDeviceStore } from "@greenroom/store/ToDeviceStore"
import { Context, Effect, Layer, Option } from "effect"
import type { Session } from "../runtime/Session.ts"
import { makeReadToken } from "../runtime/StreamTokens.ts"
import { DeviceKeys, type KeyUploadRequest } from "../user/encryption/DeviceKeys.ts"
import { Accounts } from "./Accounts.ts"

/** The most characters of the client's data, as JSON. */
const maxData = 65_536
/** How many messages are read at once. */
const batchSize = 100

/** A dehydrated device, with its keys. */
export interface DehydratedUpload extends KeyUploadRequest {
  readonly deviceId: string
  readonly data: JsonObject
  readonly name: string | undefined
}

/** A page of messages to a dehydrated device. */
export interface MessagesOfDevice {
  readonly events: ReadonlyArray<object>
  /** The token from which to read on. */
  readonly nextBatch: string
  /** Whether there are no more messages. */
  readonly isLast: boolean
}

const none = new NotFound({ error: "There is no dehydrated device" })

const make = Effect.gen(function* () {
  const store = yield* DehydratedDeviceStore
  const accounts = yield* Accounts
  const keys = yield* DeviceKeys
  const messages = yield* ToDeviceStore
  const log = yield* EventLog
  const readToken = yield* makeReadToken

  const found = ({ userId }: Session) =>
    Effect.flatMap(store.find(userId), (device) =>
      Option.isSome(device) ? Effect.succeed(device.value) : Effect.fail(none)
    )

  const logOut = ({ userId }: Session, deviceId: string) => Effect.ignore(accounts.logoutDevice(userId, deviceId))

  const put = Effect.fn("DehydratedDevices.put")(function* (session: Session, upload: DehydratedUpload) {
    const { data, deviceId, name, ...keysOf } = upload
    if (upload.device_keys === undefined) return yield* new InvalidParam({ error: "device_keys: missing key" })
    if (JSON.stringify(data).length > maxData) {
      return yield* new TooLarge({ error: `device_data: more than ${maxData} characters` })
    }
    const { userId } = session
    const devices = yield* accounts.devicesOf(userId)
    const former = yield* store.find(userId)
    const formerId = Option.isSome(former) ? former.value.deviceId : undefined
    const isNew = deviceId !== formerId
    if (isNew && devices.some(({ device_id }) => device_id === deviceId)) {
      return yield* new Forbidden({ error: "device_id: a client is logged in with this device" })
    }
    if (isNew) yield* accounts.openSession(userId, { deviceId, deviceName: name })
    yield* Effect.onError(keys.upload({ userId, deviceId, tokenId: 0 }, keysOf), () =>
      isNew ? logOut(session, deviceId) : Effect.void
    )
    yield* store.put(userId, { deviceId, data })
    if (formerId !== undefined && isNew) yield* logOut(session, formerId)
  })

  const remove = Effect.fn("DehydratedDevices.remove")(function* (session: Session) {
    const { deviceId } = yield* found(session)
    yield* logOut(session, deviceId)
    return deviceId
  })

  const read = Effect.fn("DehydratedDevices.read")(function* (
    session: Session,
    deviceId: string,
    from: string | undefined
  ): Effect.fn.Return<MessagesOfDevice, MatrixError> {
    const device = yield* Effect.option(found(session))
    if (Option.isNone(device) || device.value.deviceId !== deviceId) {
      return yield* new Forbidden({ error: "This device ID is not that of the dehydrated device" })
    }
    const after =
      from === undefined
        ? beginning
        : (yield* Effect.mapError(readToken(from), ({ reason }) => new InvalidParam({ error: `from: ${reason}` })))
            .position
    const upTo = yield* Effect.andThen(log.caughtUp, log.currentPosition)
    const waiting = yield* messages.read(session.userId, deviceId, after, upTo, batchSize + 1)
    const given = waiting.slice(0, batchSize)
    return {
      events: given.map(({ content, sender, type }) => ({ type, sender, content })),
      nextBatch: yield* log.tokenOf(given.at(-1)?.position ?? after),
      isLast: given.length === waiting.length
    }
  })

  return DehydratedDevices.of({ find: found, put, remove, read })
})

/** Dehydrated devices (MSC3814): upload, read, take over their messages. */
export class DehydratedDevices extends Context.Service<
  DehydratedDevices,
  {
    /** The dehydrated device of the user. Errors: M_NOT_FOUND. */
    readonly find: (session: Session) => Effect.Effect<DehydratedDevice, MatrixError>
    /** Replaces the dehydrated device of the user. Errors: M_FORBIDDEN for a device of a client; those of an upload of keys. */
    readonly put: (session: Session, upload: DehydratedUpload) => Effect.Effect<void, MatrixError>
    /** Removes the dehydrated device, and returns its ID. Errors: M_NOT_FOUND. */
    readonly remove: (session: Session) => Effect.Effect<string, MatrixError>
    /** Reads messages to the device after a token, and does not delete them. Errors: M_FORBIDDEN, M_INVALID_PARAM. */
    readonly read: (
      session: Session,
      deviceId: string,
      from: string | undefined
    ) => Effect.Effect<MessagesOfDevice, MatrixError>
  }
>()("greenroom/actors/DehydratedDevices") {
  static readonly layer = Layer.effect(DehydratedDevices, make)
}
