/**
 * EDUs: short-lived data that servers send to each other. Presence, permissions to see it, and typing.
 *
 * `readEdu` takes one as it came from another server. An EDU is only about users of the server that sent it; other users in
 * it are ignored, as are users whose IDs clients must not receive outside of events (`isCompliantUserId`), and EDUs of unknown types.
 *
 * Source: "PDUs and EDUs" and "Presence" of the draft, "EDUs" of the server-server specification.
 */
import { Option, Schema } from "effect"
import { EventType, TransactionId } from "../api/Parameters.ts"
import { PresenceState } from "../api/PresenceApi.ts"
import {
  type EventId,
  isCompliantUserId,
  isEventId,
  isRoomId,
  isUserId,
  RoomId,
  type ServerName,
  serverNameOf,
  UserId
} from "../Identifiers.ts"
import { Integer, isJsonObject, type JsonObject } from "../Json.ts"
import { isStorable, isText } from "../Text.ts"

/** The most users that one presence EDU pushes, polls or unpolls. */
export const maxPresenceUsers = 1_000

/** The longest `status_msg`, in UTF-16 code units. */
const maxStatus = 1024

/** The most receipts of one EDU that are read. */
export const maxReceipts = 1_000

const users = Schema.optionalKey(Schema.Array(UserId).check(Schema.isMaxLength(maxPresenceUsers)))

/** The presence of a user of the origin. `presence` is the same as `state`, under its later name. */
export const PresencePush = Schema.Struct({
  user_id: UserId,
  state: PresenceState,
  presence: PresenceState,
  status_msg: Schema.optionalKey(Schema.String.check(Schema.isMaxLength(maxStatus))),
  /** Milliseconds since the user last did something. */
  last_active_ago: Schema.optionalKey(Integer.check(Schema.isGreaterThanOrEqualTo(0))),
  /** Whether the user is likely to be at a client now. */
  currently_active: Schema.optionalKey(Schema.Boolean)
}).annotate({ identifier: "PresencePush" })
export type PresencePush = typeof PresencePush.Type

/** Presence of users of the origin; users of the destination whose presence the origin subscribes to, or unsubscribes from. */
export interface PresenceEdu {
  readonly edu_type: "m.presence"
  readonly content: {
    readonly push: ReadonlyArray<PresencePush>
    readonly poll: ReadonlyArray<UserId>
    readonly unpoll: ReadonlyArray<UserId>
  }
}

/** `invite`: the observer, of the origin, asks. `accept` and `deny`: the observed, of the origin, answers. */
export interface PresenceListEdu {
  readonly edu_type: "m.presence_invite" | "m.presence_accept" | "m.presence_deny"
  readonly content: { readonly observed_user: UserId; readonly observer_user: UserId }
}

/** A user of the origin types, or stopped. */
export interface TypingEdu {
  readonly edu_type: "m.typing"
  readonly content: { readonly room_id: RoomId; readonly user_id: UserId; readonly typing: boolean }
}

/** How far a user of the origin has read in a room. */
export interface RemoteReceipt {
  readonly roomId: RoomId
  readonly userId: UserId
  readonly eventId: EventId
  /** Milliseconds since 1970. */
  readonly ts: number
  /** `main`, the root of a thread, or undefined for a receipt without a thread. */
  readonly threadId: string | undefined
}

/** Public receipts of users of the origin. */
export interface ReceiptEdu {
  readonly edu_type: "m.receipt"
  readonly content: ReadonlyArray<RemoteReceipt>
}

/** The longest message to a device: its JSON, in UTF-16 code units. */
const maxDirectLength = 65_536

/** A user of the origin sends messages to devices, by user and device. */
export interface DirectEdu {
  readonly edu_type: "m.direct_to_device"
  readonly content: {
    readonly sender: UserId
    readonly type: string
    readonly message_id: string
    readonly messages: ReadonlyMap<UserId, { readonly [deviceId: string]: JsonObject }>
  }
}

/** The most `prev_id`s that are read of an update; an update with more has lost its predecessors. */
const maxPreviousUpdates = 100

/** One change of the devices of a user. */
export interface DeviceUpdate {
  readonly deviceId: string
  /** Names the update among those of its user. */
  readonly streamId: number
  /** The updates before it. */
  readonly previousIds: ReadonlyArray<number>
  readonly isDeleted: boolean
  /** Absent if the device has none. */
  readonly keys: JsonObject | undefined
  readonly displayName: string | undefined
}

/** A device of a user of the origin changed. `update` is undefined if the content does not say how. */
export interface DeviceListEdu {
  readonly edu_type: "m.device_list_update"
  readonly content: { readonly user_id: UserId; readonly update: DeviceUpdate | undefined }
}

/** The cross-signing keys of a user of the origin changed. */
export interface SigningKeyEdu {
  readonly edu_type: "m.signing_key_update"
  readonly content: {
    readonly user_id: UserId
    readonly master: JsonObject | undefined
    readonly selfSigning: JsonObject | undefined
  }
}

/** A change of the keys of a user. */
export type KeyUpdateEdu = DeviceListEdu | SigningKeyEdu

/** The types that `edu_type` distinguishes. */
export type Edu = PresenceEdu | PresenceListEdu | TypingEdu | ReceiptEdu | DirectEdu | KeyUpdateEdu

const PresenceEnvelope = Schema.Struct({
  push: Schema.optionalKey(Schema.Array(Schema.Unknown).check(Schema.isMaxLength(maxPresenceUsers))),
  poll: users,
  unpoll: users
})
const ListContent = Schema.Struct({ observed_user: UserId, observer_user: UserId })
const TypingContent = Schema.Struct({ room_id: RoomId, user_id: UserId, typing: Schema.Boolean })

const DirectContent = Schema.Struct({
  sender: UserId,
  type: EventType,
  message_id: TransactionId,
  messages: Schema.Record(Schema.String, Schema.Unknown)
})
const KeyUpdateContent = Schema.Struct({ user_id: UserId })
const DeviceId = Schema.String.check(Schema.isMinLength(1), Schema.isMaxLength(512))
const decodeDirect = Schema.decodeUnknownOption(DirectContent)
const decodeKeyUpdate = Schema.decodeUnknownOption(KeyUpdateContent)
const isDeviceId = Schema.is(DeviceId)

const decodePresence = Schema.decodeUnknownOption(PresenceEnvelope)
const decodePush = Schema.decodeUnknownOption(PresencePush)
const decodeList = Schema.decodeUnknownOption(ListContent)
const decodeTyping = Schema.decodeUnknownOption(TypingContent)

const isOf = (userId: UserId, origin: ServerName): boolean =>
  serverNameOf(userId) === origin && isCompliantUserId(userId)

/**
 * One entry of `push`: either key may name the state, and one bad entry does not reject the others. What else it says is left out
 * where it is malformed.
 */
const readPush = (value: unknown, origin: ServerName): ReadonlyArray<PresencePush> => {
  if (!isJsonObject(value)) return []
  const { currently_active, last_active_ago: ago, presence, state = presence, status_msg: text, user_id } = value
  const push = decodePush({
    user_id,
    state,
    presence: state,
    ...(typeof text === "string" ? { status_msg: text.slice(0, maxStatus).toWellFormed() } : {}),
    ...(Number.isSafeInteger(ago) ? { last_active_ago: Math.max(0, ago as number) } : {}),
    ...(typeof currently_active === "boolean" ? { currently_active } : {})
  })
  return Option.isSome(push) && isOf(push.value.user_id, origin) ? [push.value] : []
}

const readPresence = (content: JsonObject, origin: ServerName): Option.Option<PresenceEdu> =>
  Option.map(decodePresence(content), ({ poll = [], push = [], unpoll = [] }) => ({
    edu_type: "m.presence",
    content: { push: push.flatMap((entry) => readPush(entry, origin)), poll, unpoll }
  }))

const readList = (
  edu_type: PresenceListEdu["edu_type"],
  content: JsonObject,
  origin: ServerName
): Option.Option<PresenceListEdu> =>
  Option.map(
    Option.filter(decodeList(content), ({ observed_user, observer_user }) => {
      const speaker = edu_type === "m.presence_invite" ? observer_user : observed_user
      return isOf(speaker, origin)
    }),
    (content) => ({ edu_type, content })
  )

const readTyping = (content: JsonObject, origin: ServerName): Option.Option<TypingEdu> =>
  Option.map(
    Option.filter(decodeTyping(content), ({ user_id }) => isOf(user_id, origin)),
    (content) => ({ edu_type: "m.typing", content })
  )

/** The receipt of a user in a room, if it is one. */
const readReceipt = (roomId: RoomId, userId: string, value: unknown): ReadonlyArray<RemoteReceipt> => {
  if (!isUserId(userId) || !isJsonObject(value) || !Array.isArray(value.event_ids)) return []
  const eventId = value.event_ids.at(-1)
  const { thread_id: threadId, ts } = isJsonObject(value.data) ? value.data : {}
  const isThread = threadId === undefined || (typeof threadId === "string" && isText(threadId, 1))
  if (!isEventId(eventId) || !Number.isSafeInteger(ts) || !isThread) return []
  return [{ roomId, userId, eventId, ts: ts as number, threadId: threadId as string | undefined }]
}

const readReceipts = (content: JsonObject, origin: ServerName): ReceiptEdu => {
  const receipts: Array<RemoteReceipt> = []
  for (const [roomId, byType] of Object.entries(content)) {
    const byUser = isJsonObject(byType) ? byType["m.read"] : undefined
    if (!isRoomId(roomId) || !isJsonObject(byUser)) continue
    for (const [userId, receipt] of Object.entries(byUser)) {
      if (receipts.length >= maxReceipts) return { edu_type: "m.receipt", content: receipts }
      if (isUserId(userId) && isOf(userId, origin)) receipts.push(...readReceipt(roomId, userId, receipt))
    }
  }
  return { edu_type: "m.receipt", content: receipts }
}

/** Messages that are none are left out, as are those for devices that can have no such name. */
const readDirect = (content: JsonObject, origin: ServerName): Option.Option<DirectEdu> =>
  Option.map(
    Option.filter(decodeDirect(content), ({ sender }) => isOf(sender, origin)),
    ({ messages, ...rest }) => {
      const read = new Map<UserId, { readonly [deviceId: string]: JsonObject }>()
      for (const [userId, devices] of Object.entries(messages)) {
        if (!isUserId(userId) || !isJsonObject(devices)) continue
        const ofUser = Object.entries(devices).filter(
          (entry): entry is [string, JsonObject] =>
            isStorable(entry[0]) && isJsonObject(entry[1]) && JSON.stringify(entry[1]).length <= maxDirectLength
        )
        read.set(userId, Object.fromEntries(ofUser))
      }
      return { edu_type: "m.direct_to_device", content: { ...rest, messages: read } }
    }
  )

const isStreamId = (value: unknown): value is number => Number.isSafeInteger(value)

const readDeviceUpdate = (content: JsonObject): DeviceUpdate | undefined => {
  const { deleted, device_display_name, device_id, keys, prev_id = [], stream_id } = content
  if (!isDeviceId(device_id) || !isStreamId(stream_id)) return undefined
  const previous = Array.isArray(prev_id) && prev_id.length <= maxPreviousUpdates && prev_id.every(isStreamId)
  return {
    deviceId: device_id,
    streamId: stream_id,
    previousIds: previous ? (prev_id as ReadonlyArray<number>) : [],
    isDeleted: deleted === true,
    keys: isJsonObject(keys) ? keys : undefined,
    displayName: typeof device_display_name === "string" ? device_display_name : undefined
  }
}

const readKeyUpdate = (
  type: KeyUpdateEdu["edu_type"],
  content: JsonObject,
  origin: ServerName
): Option.Option<KeyUpdateEdu> =>
  Option.map(
    Option.filter(decodeKeyUpdate(content), ({ user_id }) => isOf(user_id, origin)),
    ({ user_id }): KeyUpdateEdu => {
      if (type === "m.device_list_update") {
        return { edu_type: type, content: { user_id, update: readDeviceUpdate(content) } }
      }
      const { master_key, self_signing_key } = content
      const master = isJsonObject(master_key) ? master_key : undefined
      const selfSigning = isJsonObject(self_signing_key) ? self_signing_key : undefined
      return { edu_type: type, content: { user_id, master, selfSigning } }
    }
  )

/**
 * The EDU that `origin` sent. Undefined if it is malformed, of an unknown type, or about a user of another server.
 */
export const readEdu = (value: unknown, origin: ServerName): Option.Option<Edu> => {
  if (!isJsonObject(value) || !isJsonObject(value.content)) return Option.none()
  // Today's specification has no origin here. Dendrite sends an empty one.
  if (value.origin !== undefined && value.origin !== "" && value.origin !== origin) return Option.none()
  const { content, edu_type: type } = value
  switch (type) {
    case "m.presence":
      return readPresence(content, origin)
    case "m.presence_invite":
    case "m.presence_accept":
    case "m.presence_deny":
      return readList(type, content, origin)
    case "m.typing":
      return readTyping(content, origin)
    case "m.receipt":
      return Option.filter(Option.some(readReceipts(content, origin)), ({ content }) => content.length > 0)
    case "m.direct_to_device":
      return readDirect(content, origin)
    case "m.device_list_update":
    case "m.signing_key_update":
      return readKeyUpdate(type, content, origin)
    default:
      return Option.none()
  }
}
