/**
 * The content of a part of the log for the devices of an application service's users: messages to devices, users whose keys
 * have changed, and counts of the one-time keys left.
 *
 * Source: "Pushing ephemeral data" of the application service API, MSC2409 and MSC3202.
 */
import { isCompliantUserId, type RoomId, type UserId } from "@greenroom/protocol/Identifiers"
import { DeviceKeyStore } from "@greenroom/store/DeviceKeyStore"
import { deviceListChanges, userSignatures } from "@greenroom/store/DeviceListStore"
import { keyCountChanges } from "@greenroom/store/KeyCountChange"
import { rowsOf } from "@greenroom/store/LogKind"
import type { LogSlice } from "@greenroom/store/LogSlice"
import { RoomStore } from "@greenroom/store/RoomStore"
import { positionBefore, type StreamPosition } from "@greenroom/store/StreamToken"
import { toDeviceMessages } from "@greenroom/store/ToDeviceMessage"
import { ToDeviceStore } from "@greenroom/store/ToDeviceStore"
import { Effect } from "effect"
import type { AppServiceInterest } from "./AppServiceInterest.ts"
import type { AppService } from "./AppServices.ts"

/** How many messages to one device are read at once. */
const messagesAtOnce = 100

interface Device {
  readonly userId: UserId
  readonly deviceId: string
}

/** Messages to devices of the service's users, and these devices. */
export interface DeviceMessages {
  readonly events: ReadonlyArray<object>
  readonly devices: ReadonlyArray<Device>
}

/** An event of a transaction, also an ephemeral one. Presence is of no room. */
export interface SentEvent {
  readonly type: string
  readonly room_id?: RoomId
  readonly sender?: UserId
  readonly content: object
}

const eachOnce = (devices: ReadonlyArray<Device>): ReadonlyArray<Device> => [
  ...new Map(devices.map((device) => [`${device.userId} ${device.deviceId}`, device])).values()
]

type ByUserAndDevice<A> = Record<string, Record<string, A>>

const addTo = <A>(all: ByUserAndDevice<A>, { deviceId, userId }: Device, value: A): void => {
  all[userId] = { ...all[userId], [deviceId]: value }
}

/** The device changes that an application service receives. */
export const makeAppServiceDevices = Effect.fnUntraced(function* (service: AppService, interest: AppServiceInterest) {
  const toDevice = yield* ToDeviceStore
  const keys = yield* DeviceKeyStore
  const rooms = yield* RoomStore

  const messagesTo = Effect.fnUntraced(function* (device: Device, after: StreamPosition, upTo: StreamPosition) {
    const events: Array<object> = []
    let from = after
    while (true) {
      const found = yield* toDevice.read(device.userId, device.deviceId, from, upTo, messagesAtOnce)
      for (const { content, sender, type } of found) {
        events.push({ type, sender, content, to_user_id: device.userId, to_device_id: device.deviceId })
      }
      if (found.length < messagesAtOnce) return events
      from = found.at(-1)!.position
    }
  })

  /**
   * The messages of a part of the log, each device's in its order. They stay for the device, which may fetch them by `/sync`: nothing shows
   * whether a service reads the messages of a device in transactions, or the device is a client's, also of a user who is in the namespace.
   */
  const messagesIn = Effect.fnUntraced(function* (slice: LogSlice, after: StreamPosition) {
    const { upTo } = slice
    const addressed = rowsOf(slice.rows, toDeviceMessages).flatMap(({ row }) =>
      service.hasUser(row.userId) ? [row] : []
    )
    const devices = eachOnce(addressed)
    const events = yield* Effect.forEach(devices, (device) => messagesTo(device, after, upTo))
    return { events: events.flat(), devices } satisfies DeviceMessages
  })

  /** The members of rooms that a user of the service has entered, where none was before: changes of their keys were not sent till then. */
  const metIn = Effect.fnUntraced(function* ({ memberships }: LogSlice) {
    const met: Array<UserId> = []
    for (const { membership, position, roomNid, userId } of memberships) {
      if (membership !== "join" || !service.hasUser(userId)) continue
      const before = yield* rooms.joinedAt(roomNid, positionBefore(position))
      if (!before.some(service.hasUser)) met.push(...(yield* rooms.joinedMembers(roomNid)))
    }
    return met
  })

  /**
   * What `/sync` would say to the service's users: users whose keys changed, that share a room with them from now on, or left the last
   * one. As there, a new signature is a change for its signer alone.
   */
  const listsIn = Effect.fnUntraced(function* (slice: LogSlice) {
    const [changed, left] = [new Set(yield* metIn(slice)), new Set<UserId>()]
    for (const { row } of rowsOf(slice.rows, deviceListChanges))
      if (yield* interest.mayKnow(row.userId)) changed.add(row.userId)
    for (const { row } of rowsOf(slice.rows, userSignatures)) if (service.hasUser(row.signer)) changed.add(row.userId)
    for (const { event } of slice.events) {
      if (event.type !== "m.room.member" || (yield* interest.wantedRoom(event.room_id)) === undefined) continue
      const userId = event.state_key as UserId
      if (yield* interest.mayKnow(userId)) changed.add(userId)
      else left.add(userId)
    }
    return { changed: [...changed].filter(isCompliantUserId), left: [...left].filter(isCompliantUserId) }
  })

  const countsOf = Effect.fnUntraced(function* (devices: ReadonlyArray<Device>) {
    const [counts, fallbacks] = [{} as ByUserAndDevice<object>, {} as ByUserAndDevice<ReadonlyArray<string>>]
    const found = yield* Effect.forEach(devices, ({ deviceId, userId }) => keys.counts(userId, deviceId), {
      concurrency: "unbounded"
    })
    for (const [index, { oneTime, unusedFallback }] of found.entries()) {
      addTo(counts, devices[index]!, oneTime)
      addTo(fallbacks, devices[index]!, unusedFallback)
    }
    return { counts, fallbacks }
  })

  /**
   * The part of a transaction that MSC3202 adds; undefined if there is nothing to say. Counts of keys are sent when they change, and with
   * any transaction to devices of the users that it concerns, as Synapse sends them: the service's own user, and those in the rooms of its
   * events. Bridges of matrix-bot-sdk read changes of device lists only for users with counts.
   */
  const newsIn = Effect.fnUntraced(function* (
    slice: LogSlice,
    { devices: addressed, events: messages }: DeviceMessages,
    events: ReadonlyArray<SentEvent>
  ) {
    const device_lists = yield* listsIn(slice)
    const counted = rowsOf(slice.rows, keyCountChanges).flatMap(({ row }) => (service.hasUser(row.userId) ? [row] : []))
    const listed = device_lists.changed.length + device_lists.left.length
    if (listed + counted.length + messages.length + events.length === 0) return undefined
    const users = new Set([service.sender])
    for (const { room_id } of events) {
      if (room_id !== undefined) for (const userId of interest.usersIn(room_id)) users.add(userId)
    }
    const devices = eachOnce([...addressed, ...counted, ...(yield* keys.devicesOf([...users]))])
    const { counts, fallbacks } = yield* countsOf(devices)
    return {
      ...(listed === 0 ? {} : { "org.matrix.msc3202.device_lists": device_lists }),
      ...(devices.length === 0
        ? {}
        : {
            "org.matrix.msc3202.device_one_time_keys_count": counts,
            "org.matrix.msc3202.device_one_time_key_counts": counts,
            "org.matrix.msc3202.device_unused_fallback_key_types": fallbacks
          })
    }
  })

  return { messagesIn, newsIn }
})
