/**
 * The encryption part of `/sync`: messages to the device, users whose keys changed, and counts of the device's keys that can
 * be claimed.
 *
 * Source: "Extensions to /sync" of "Send-to-Device messaging" and "End-to-End Encryption" of the client-server
 * specification.
 */
import { DeviceKeyStore, type PrekeyCounts } from "@greenroom/store/DeviceKeyStore"
import { DeviceListStore } from "@greenroom/store/DeviceListStore"
import { beginning, type StreamPosition } from "@greenroom/store/StreamToken"
import { ToDeviceStore, type WaitingMessage } from "@greenroom/store/ToDeviceStore"
import { Effect } from "effect"
import type { Session } from "../../runtime/Session.ts"
import type { SyncedDevices, SyncedKeyCounts } from "../SyncAnswer.ts"
import type { UserFeed } from "./UserFeed.ts"

/** The most messages to the device in one answer. */
export const maxMessages = 100

/** Clients take a missing algorithm for an unchanged one, or for one without keys, so this one is always there. */
const noneLeft = { signed_curve25519: 0 }

interface DevicesRange {
  readonly session: Session
  /** Undefined for a first answer. */
  readonly since: StreamPosition | undefined
  /** The position up to which the client has messages. */
  readonly messagesSeen: StreamPosition | undefined
  readonly upTo: StreamPosition
  /** The most messages, at most `maxMessages`. */
  readonly limit?: number
}

interface DevicesNews {
  readonly answer: SyncedDevices
  /** The position up to which the messages were read. */
  readonly messagesSeen: StreamPosition
}

const toEvent = ({ content, sender, type }: WaitingMessage) => ({ sender, type, content })

export const makeSyncDevices = Effect.gen(function* () {
  const keys = yield* DeviceKeyStore
  const lists = yield* DeviceListStore
  const toDevice = yield* ToDeviceStore

  const toSynced = ({ oneTime, unusedFallback }: PrekeyCounts): SyncedKeyCounts => ({
    device_one_time_keys_count: { ...noneLeft, ...oneTime },
    device_unused_fallback_key_types: unusedFallback
  })

  /** The counts of a device, which its feed keeps until they change. */
  const keyCounts = ({ deviceId, userId }: Session, feed: UserFeed): Effect.Effect<SyncedKeyCounts> =>
    Effect.suspend(() => {
      const device = feed.deviceOf(deviceId)
      if (device.keyCounts !== undefined) return Effect.succeed(toSynced(device.keyCounts))
      const { keyCountChanges } = feed
      return Effect.map(keys.counts(userId, deviceId), (counts) => {
        if (feed.keyCountChanges === keyCountChanges) device.keyCounts = counts
        return toSynced(counts)
      })
    })

  const read = Effect.fnUntraced(function* ({
    limit = maxMessages,
    messagesSeen,
    session,
    since,
    upTo
  }: DevicesRange): Effect.fn.Return<DevicesNews> {
    const { deviceId, userId } = session
    const [messages, counts, news] = yield* Effect.all([
      toDevice.read(userId, deviceId, messagesSeen ?? beginning, upTo, limit + 1),
      keys.counts(userId, deviceId),
      since === undefined ? Effect.succeed(undefined) : lists.news(userId, { after: since, upTo })
    ])
    const given = messages.slice(0, limit)
    return {
      answer: {
        to_device: { events: given.map(toEvent) },
        ...(news === undefined ? {} : { device_lists: news }),
        ...toSynced(counts)
      },
      messagesSeen: given.length === messages.length ? upTo : (given.at(-1)?.position ?? messagesSeen ?? beginning)
    }
  })

  /** The device shows by its token that it has the messages up to a position. */
  const acknowledge = ({ deviceId, userId }: Pick<Session, "deviceId" | "userId">, seen: StreamPosition) =>
    toDevice.acknowledge(userId, deviceId, seen)

  return { read, acknowledge, keyCounts }
})
