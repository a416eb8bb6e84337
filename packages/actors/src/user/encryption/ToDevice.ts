/**
 * Messages from a user to devices, each delivered once and in the order of sending.
 *
 * Source: "Send-to-Device messaging" of the client-server specification.
 */
import { randomBytes } from "node:crypto"
import { serverNameOf, type UserId } from "@greenroom/protocol/Identifiers"
import { isJsonObject, type JsonObject } from "@greenroom/protocol/Json"
import { BadJson, LimitExceeded, type MatrixError, TooLarge } from "@greenroom/protocol/MatrixError"
import { plural } from "@greenroom/protocol/Plural"
import { isStorable } from "@greenroom/protocol/Text"
import { OutgoingEduStore } from "@greenroom/store/OutgoingEduStore"
import { type OutgoingMessage, ToDeviceStore } from "@greenroom/store/ToDeviceStore"
import { Clock, Context, Effect, Layer } from "effect"
import { Peers } from "../../federation/Peers.ts"
import { HomeServerConfig } from "../../runtime/HomeServerConfig.ts"
import type { Session } from "../../runtime/Session.ts"
import { periodicallyOnce } from "../../runtime/Singletons.ts"
import { objectText } from "./DeviceKeys.ts"

/** The most messages of one request. */
const maxMessages = 10_000
/** The most bytes of a message. */
const maxContentBytes = 65_536
/** The most messages that wait for a device. Above the bounds the oldest are deleted. */
export const maxWaitingMessages = 20_000
/** The most bytes of messages that wait for a device. */
export const maxWaitingBytes = 64 * 1024 * 1024
const trimInterval = "10 minutes"

/** Messages to devices of one or several users. */
export interface ToDeviceRequest {
  readonly type: string
  readonly txnId: string
  /** Keys: users, then devices; `*` is every device. */
  readonly messages: ReadonlyMap<UserId, JsonObject>
}

/** The messages one by one. Errors: M_BAD_JSON, M_TOO_LARGE. */
const readMessages = Effect.fnUntraced(function* (messages: ReadonlyMap<UserId, JsonObject>) {
  const read: Array<OutgoingMessage> = []
  for (const [userId, devices] of messages) {
    for (const [deviceId, content] of Object.entries(devices)) {
      if (!isJsonObject(content)) return yield* new BadJson({ error: `messages: ${userId}: expected objects` })
      // No device has such a name.
      if (!isStorable(deviceId)) continue
      const text = JSON.stringify(content)
      if (text.length > maxContentBytes) {
        return yield* new TooLarge({ error: `messages: a message has at most ${maxContentBytes} bytes` })
      }
      read.push({ userId, deviceId, content: text })
      if (read.length > maxMessages) return yield* new TooLarge({ error: `messages: at most ${maxMessages}` })
    }
  }
  return read
})

/** How many servers one request may name that were never reached, and for how many of them messages wait. */
const maxUnknownServers = 20
const maxUnreached = 1_000

/** The most bytes of one EDU, where a message is not larger alone. */
const maxEduBytes = 131_072

/** Messages in as many parts as their bytes need. */
const parts = (messages: ReadonlyArray<OutgoingMessage>): ReadonlyArray<ReadonlyArray<OutgoingMessage>> => {
  const found: Array<Array<OutgoingMessage>> = []
  let bytes = maxEduBytes
  for (const message of messages) {
    bytes += message.content.length
    if (bytes > maxEduBytes) {
      bytes = message.content.length
      found.push([])
    }
    found.at(-1)!.push(message)
  }
  return found
}

/** The content of an `m.direct_to_device`: JSON text. */
const toEdu = (sender: UserId, type: string, messages: ReadonlyArray<OutgoingMessage>): string => {
  const byUser = Map.groupBy(messages, ({ userId }) => userId)
  const texts = [...byUser].map(
    ([userId, ofUser]) =>
      [userId, objectText(ofUser.map(({ content, deviceId }) => [deviceId, content] as const))] as const
  )
  return objectText([
    ["sender", JSON.stringify(sender)],
    ["type", JSON.stringify(type)],
    ["message_id", JSON.stringify(randomBytes(16).toString("base64url"))],
    ["messages", objectText(texts)]
  ])
}

const make = Effect.gen(function* () {
  const { serverName } = yield* HomeServerConfig
  const peers = yield* Peers
  const store = yield* ToDeviceStore
  const outgoing = yield* OutgoingEduStore

  /** What is for servers that do not exist waits for long. */
  const mustReach = Effect.fnUntraced(function* (messages: ReadonlyArray<OutgoingMessage>) {
    const users = [...new Set(messages.map(({ userId }) => userId))]
    const unknown = users.length === 0 ? [] : yield* outgoing.neverReached(users)
    if (unknown.length > maxUnknownServers) {
      const error = `messages: at most ${maxUnknownServers} servers that were never reached, of users who are in no room here`
      return yield* new TooLarge({ error })
    }
    if (unknown.length > 0 && (yield* outgoing.countUnreached) >= maxUnreached) {
      const error = "Messages wait for too many servers that were never reached, try again later"
      return yield* new LimitExceeded({ error, retry_after_ms: 600_000 })
    }
  })

  const send = Effect.fn("ToDevice.send")(function* (
    { tokenId, userId }: Session,
    { messages, txnId, type }: ToDeviceRequest
  ): Effect.fn.Return<void, MatrixError> {
    const read = yield* readMessages(messages)
    const byServer = Map.groupBy(read, ({ userId }) => serverNameOf(userId))
    const ours = byServer.get(serverName) ?? []
    byServer.delete(serverName)
    yield* mustReach([...byServer.values()].flat())
    const edus = [...byServer].flatMap(([destination, messages]) =>
      parts(messages).map((part) => ({ destination, content: toEdu(userId, type, part) }))
    )
    yield* store.send(userId, type, ours, { tokenId, txnId, at: yield* Clock.currentTimeMillis }, edus)
    if (edus.length > 0) yield* peers.wake(byServer.keys())
  })

  yield* periodicallyOnce(
    "Deleting the oldest of too many messages to a device",
    trimInterval,
    Effect.flatMap(store.trim(maxWaitingMessages, maxWaitingBytes), (dropped) =>
      dropped === 0
        ? Effect.void
        : Effect.logWarning(`Deleted ${plural(dropped, "message")} to devices that do not fetch them`)
    )
  )

  return ToDevice.of({ send })
})

/** Messages to devices. */
export class ToDevice extends Context.Service<
  ToDevice,
  {
    /** Sends messages; a repeat of the transaction sends nothing. Errors: M_BAD_JSON, M_TOO_LARGE. */
    readonly send: (session: Session, request: ToDeviceRequest) => Effect.Effect<void, MatrixError>
  }
>()("greenroom/actors/ToDevice") {
  static readonly layer = Layer.effect(ToDevice, make)
}
