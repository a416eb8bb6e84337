/**
 * Handles the EDUs of other servers, each one independently. An EDU is ignored if it is malformed, of an unknown type, about
 * users of another server, or about a room that its origin has no part in.
 *
 * | EDU | goes to |
 * |---|---|
 * | `m.typing` | the Room actor, as if the user typed here; only for members, where the room admits their server |
 * | `m.receipt` | `ReceiptStore`; the same. Receipts of events that are not here wait for them (`internal/IncomingReceipts.ts`) |
 * | `m.presence`: `push` | `RemotePresences` |
 * | `m.presence`: `poll`, `unpoll` | `OutgoingPresence`, which answers by a push |
 * | `m.presence_invite` | the User actor of the observed user; accepted at once if that is configured |
 * | `m.direct_to_device` | the devices of our users, once for each message ID |
 * | `m.device_list_update`, `m.signing_key_update` | `RemoteDeviceLists`: the devices of users who share a room with ours |
 * | `m.presence_accept`, `m.presence_deny` | the presence list of our user who asked |
 *
 * Source: "PDUs and EDUs" and "Presence" of the draft, "EDUs" of the server-server specification.
 */
import {
  type DirectEdu,
  type Edu,
  type KeyUpdateEdu,
  maxPresenceUsers,
  type PresenceEdu,
  type PresenceListEdu,
  readEdu,
  type TypingEdu
} from "@greenroom/protocol/federation/Edu"
import { type ServerName, serverNameOf, type UserId } from "@greenroom/protocol/Identifiers"
import type { MatrixError } from "@greenroom/protocol/MatrixError"
import { AccountStore } from "@greenroom/store/AccountStore"
import { PresenceListStore } from "@greenroom/store/PresenceListStore"
import { RoomStore } from "@greenroom/store/RoomStore"
import { ToDeviceStore } from "@greenroom/store/ToDeviceStore"
import { Cause, Clock, Context, Effect, Layer, Option } from "effect"
import { Room } from "../room/RoomProtocol.ts"
import { ask } from "../runtime/Ask.ts"
import { HomeServerConfig } from "../runtime/HomeServerConfig.ts"
import { isRefusal } from "../runtime/ItemFailure.ts"
import { makeIncomingReceipts } from "./internal/IncomingReceipts.ts"
import { OutgoingEdus } from "./OutgoingEdus.ts"
import { OutgoingPresence } from "./OutgoingPresence.ts"
import { remoteTypingTimeout } from "./OutgoingTyping.ts"
import { PresenceInvitations } from "./PresenceInvitations.ts"
import { RemoteDeviceLists } from "./RemoteDeviceLists.ts"
import { RemotePresences } from "./RemotePresences.ts"

/** How many users may wait for a user's answer to be observed; further ones are not heard. */
const maxInvitations = 1_000

/** Requests of other servers have no access token. */
const noToken = 0

/** All presence of one transaction as one EDU within the limits of one: it costs what one costs. */
const mergePresence = (edus: ReadonlyArray<Edu>): ReadonlyArray<Edu> => {
  const presence = edus.filter((edu) => edu.edu_type === "m.presence")
  if (presence.length < 2) return edus
  const pushes = new Map(presence.flatMap(({ content }) => content.push.map((push) => [push.user_id, push] as const)))
  const users = (of: (content: PresenceEdu["content"]) => ReadonlyArray<UserId>) =>
    [...new Set(presence.flatMap(({ content }) => of(content)))].slice(0, maxPresenceUsers)
  const merged: PresenceEdu = {
    edu_type: "m.presence",
    content: {
      push: [...pushes.values()].slice(0, maxPresenceUsers),
      poll: users(({ poll }) => poll),
      unpoll: users(({ unpoll }) => unpoll)
    }
  }
  return [merged, ...edus.filter((edu) => edu.edu_type !== "m.presence")]
}

const isKeyUpdate = (edu: Edu): edu is KeyUpdateEdu =>
  edu.edu_type === "m.device_list_update" || edu.edu_type === "m.signing_key_update"

/** EDUs that are soon followed by new ones of their kind. */
const isShortLived = (eduType: Edu["edu_type"]): boolean => eduType === "m.typing" || eduType === "m.presence"

const makeListReceiver = Effect.gen(function* () {
  const { serverName } = yield* HomeServerConfig
  const accounts = yield* AccountStore
  const lists = yield* PresenceListStore
  const invitations = yield* PresenceInvitations
  const edus = yield* OutgoingEdus
  const remotePresences = yield* RemotePresences

  const isOurs = Effect.fnUntraced(function* (userId: UserId) {
    const account = serverNameOf(userId) === serverName ? yield* accounts.find(userId) : Option.none()
    return Option.isSome(account) && account.value.deactivatedAt === undefined
  })

  const invited = Effect.fnUntraced(function* (content: PresenceListEdu["content"]) {
    const { observed_user: observed, observer_user: observer } = content
    if (!(yield* isOurs(observed))) return
    if ((yield* lists.invitations(observed)).length >= maxInvitations) return
    yield* lists.invite(observer, observed)
    if (!(yield* invitations.receive(observed, observer))) return
    yield* edus.send({ destination: serverNameOf(observer), edu_type: "m.presence_accept", content })
  })

  return Effect.fnUntraced(function* ({ content, edu_type }: PresenceListEdu) {
    const { observed_user: observed, observer_user: observer } = content
    if (edu_type === "m.presence_invite") return yield* invited(content)
    if (serverNameOf(observer) !== serverName) return
    const accepts = edu_type === "m.presence_accept"
    const asked = accepts ? yield* lists.accept(observed, observer) : yield* lists.deny(observed, observer)
    if (!asked) return
    if (accepts) yield* remotePresences.want([observed])
  })
})

const make = Effect.gen(function* () {
  const rooms = yield* RoomStore
  const room = yield* Room.client
  const receipts = yield* makeIncomingReceipts
  const remotePresences = yield* RemotePresences
  const outgoingPresence = yield* OutgoingPresence
  const receiveList = yield* makeListReceiver
  const { serverName } = yield* HomeServerConfig
  const toDevice = yield* ToDeviceStore
  const deviceLists = yield* RemoteDeviceLists

  // The membership is looked up first, so that servers cannot wake actors of rooms that they are not in.
  const receiveTyping = Effect.fnUntraced(function* ({ content: { room_id, typing, user_id } }: TypingEdu) {
    const membership = yield* rooms.membership(user_id, room_id)
    if (Option.isNone(membership) || membership.value.membership !== "join") return
    yield* ask(room(room_id).SetTyping({ userId: user_id, typing, timeout: remoteTypingTimeout }))
  })

  const receivePresence = Effect.fnUntraced(function* (origin: ServerName, { content }: PresenceEdu) {
    yield* remotePresences.receive(content.push)
    yield* outgoingPresence.unpoll(origin, content.unpoll)
    yield* outgoingPresence.poll(origin, content.poll)
  })

  const receiveDirect = Effect.fnUntraced(function* ({ content }: DirectEdu) {
    const messages = [...content.messages].flatMap(([userId, devices]) =>
      serverNameOf(userId) !== serverName
        ? []
        : Object.entries(devices).map(([deviceId, message]) => ({ userId, deviceId, content: JSON.stringify(message) }))
    )
    yield* toDevice.send(content.sender, content.type, messages, {
      tokenId: noToken,
      // Message IDs are the sender's.
      txnId: `${content.sender} ${content.message_id}`,
      at: yield* Clock.currentTimeMillis
    })
  })

  const dispatch = (origin: ServerName, edu: Exclude<Edu, KeyUpdateEdu>): Effect.Effect<void, MatrixError> => {
    switch (edu.edu_type) {
      case "m.direct_to_device":
        return receiveDirect(edu)
      case "m.typing":
        return receiveTyping(edu)
      case "m.presence":
        return receivePresence(origin, edu)
      case "m.receipt":
        return receipts.receive(origin, edu.content)
      default:
        return receiveList(edu)
    }
  }

  /**
   * An EDU that must not be lost fails the transaction where a repeat may succeed: its origin then repeats the transaction. One that is
   * at fault itself must not hold up the others.
   */
  const take = (
    origin: ServerName,
    { edu_type }: Edu,
    taking: Effect.Effect<void, MatrixError>,
    isLastAttempt: boolean
  ): Effect.Effect<void> =>
    Effect.catchCause(taking, (cause) => {
      const isLost = isShortLived(edu_type)
      if (!isLost && !isRefusal(cause, isLastAttempt)) return Effect.orDie(Effect.failCause(cause))
      const log = isLost || !Cause.hasDies(cause) ? Effect.logDebug : Effect.logError
      return log(`${edu_type} of ${origin} has no effect`, cause)
    })

  // Updates of keys come first, those of one user in one step: messages to devices may need them.
  const receive = Effect.fnUntraced(function* (
    origin: ServerName,
    edus: ReadonlyArray<unknown>,
    isLastAttempt: boolean
  ) {
    const read = mergePresence(edus.flatMap((edu) => Option.toArray(readEdu(edu, origin))))
    for (const ofUser of Map.groupBy(read.filter(isKeyUpdate), ({ content }) => content.user_id).values())
      yield* take(origin, ofUser[0]!, deviceLists.receive(origin, ofUser), isLastAttempt)
    for (const edu of read) if (!isKeyUpdate(edu)) yield* take(origin, edu, dispatch(origin, edu), isLastAttempt)
  })

  return EduReceiver.of({ receive })
})

/** Handles the EDUs of other servers. */
export class EduReceiver extends Context.Service<
  EduReceiver,
  {
    /** Takes EDUs as they came. Never fails for a bad one; dies if a repeat may succeed. */
    readonly receive: (origin: ServerName, edus: ReadonlyArray<unknown>, isLastAttempt: boolean) => Effect.Effect<void>
  }
>()("greenroom/actors/federation/EduReceiver") {
  static readonly layer = Layer.effect(EduReceiver, make)
}
