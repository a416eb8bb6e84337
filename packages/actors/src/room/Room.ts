/**
 * The Room actor: owns a room on this home server and is the only writer of its events. It puts events in order in
 * memory, hands them to the event log, and answers each caller when its own event is durable; while one commit is under
 * way the next events are ordered already, so a hot room is not limited to one event a commit.
 *
 * If a commit fails, or the log says that another writer has opened the room, the actor forgets what it holds and
 * reloads it from the store.
 *
 * Source: "Room structure" and "Rooms" of the draft, "PDUs" of the server-server specification.
 */
import type { UserId } from "@greenroom/protocol/Identifiers"
import type { JsonObject } from "@greenroom/protocol/Json"
import type { MatrixError } from "@greenroom/protocol/MatrixError"
import { CurrentAllowance } from "@greenroom/store/LargeReads"
import { Effect } from "effect"
import { mayPass } from "../runtime/ItemFailure.ts"
import { makeRoomAppends } from "./internal/RoomAppends.ts"
import { makeRoomFederation } from "./internal/RoomFederation.ts"
import { makeRoomProposals } from "./internal/RoomProposals.ts"
import { makeRoomRedactions } from "./internal/RoomRedactions.ts"
import { creationScope, transactionKey } from "./internal/RoomTransactions.ts"
import { makeRoomTyping, maxTypingTimeout } from "./internal/RoomTyping.ts"
import { makeRoomWriter } from "./internal/RoomWriter.ts"
import { type Create, type CreatedRoom, Room, type RoomTransaction } from "./RoomProtocol.ts"

const behaviour = Effect.gen(function* () {
  const writer = yield* makeRoomWriter
  const { durably, forget, load, roomId, rooms, signingKey, transactions, withNids } = writer
  const federation = yield* makeRoomFederation(writer)
  const { graph, policies, restricted } = federation
  const appends = makeRoomAppends(writer, graph, policies)
  const typing = yield* makeRoomTyping(writer)
  const propose = yield* makeRoomProposals(writer, appends, typing, restricted)
  const redact = yield* makeRoomRedactions(writer, graph, appends)

  // On Create

  /** The answer that the transaction got when it made a room, this one or another. */
  const madeBy = Effect.fnUntraced(function* (transaction: RoomTransaction | undefined) {
    if (transaction === undefined) return undefined
    const stored = yield* rooms.transaction(transaction.tokenId, creationScope, transactionKey(transaction))
    return stored === undefined ? undefined : (JSON.parse(stored.response) as CreatedRoom)
  })

  const create = Effect.fnUntraced(function* (payload: (typeof Create)["payloadSchema"]["Type"]) {
    const { alias, create: first, listed, state, transaction, version } = payload
    const before = yield* madeBy(transaction)
    if (before !== undefined) return before
    yield* rooms.prepare(roomId, version, listed ? "public" : "private")
    const room = yield* load
    if (room.exists) return null
    const response: CreatedRoom = { room_id: roomId, ...(alias === undefined ? {} : { room_alias: alias }) }
    const proposals = state.map((event) => ({ ...event, room_id: roomId, sender: first.sender }))
    const key = yield* signingKey
    const appended = yield* withNids(1 + proposals.length, () =>
      appends.appendAll(room, first, proposals, first.origin_server_ts, key, {
        transactions: transaction === undefined ? [] : [transactions.row(transaction, creationScope, response)]
      })
    )
    // A refused proposal leaves the room in memory half made: it is forgotten, as nothing was stored.
    if ("refused" in appended) return yield* Effect.andThen(forget, Effect.fail(appended.refused))
    yield* appended.durable
    return response
  })

  // On RefreshMember

  const refreshMember = Effect.fnUntraced(function* (userId: UserId, profile: JsonObject) {
    const room = yield* load
    if (room.membershipOf(userId) !== "join") return
    yield* propose(
      {
        room_id: roomId,
        type: "m.room.member",
        sender: userId,
        state_key: userId,
        content: { membership: "join", ...profile }
      },
      undefined
    )
  })

  // On Backfill

  /** History that cannot be stored does not fail the request: the present events are served. */
  const withoutFaults = (fetchHistory: Effect.Effect<boolean, MatrixError>) =>
    Effect.catchCause(fetchHistory, (cause) =>
      mayPass(cause)
        ? Effect.failCause(cause)
        : Effect.as(Effect.logError(`History of ${roomId} cannot be stored`, cause), false)
    )

  return Room.of({
    Create: ({ payload }) => durably(create(payload), payload.transaction !== undefined),
    Propose: ({ payload: { at, banned, content, guest, sender, stateKey, transaction, type } }) => {
      const proposal = { room_id: roomId, type, sender, content }
      return durably(
        transactions.once(
          transaction,
          propose(stateKey === undefined ? proposal : { ...proposal, state_key: stateKey }, transaction, {
            at,
            banned,
            guest
          })
        ),
        transaction !== undefined
      )
    },
    Redact: ({ payload }) =>
      durably(transactions.once(payload.transaction, redact(payload)), payload.transaction !== undefined),
    RefreshMember: ({ payload }) => durably(refreshMember(payload.userId, payload.profile), true),
    Receive: ({ payload }) => durably(federation.receive(payload), true),
    MakeMembership: ({ payload }) =>
      durably(federation.makeMembership(payload.handshake, payload.userId, payload.versions), true),
    SendMembership: ({ payload }) =>
      Effect.flatMap(CurrentAllowance, (allowance) =>
        durably(federation.sendMembership(payload.origin, payload.handshake, payload.event, allowance), true)
      ),
    InviteJoin: ({ payload }) => durably(federation.inviteJoin(payload.event), true),
    GetState: ({ payload }) =>
      Effect.flatMap(CurrentAllowance, (allowance) =>
        durably(federation.getState(payload.origin, payload.at, allowance), true)
      ),
    RequireServer: ({ payload }) => durably(federation.requireServer(payload.origin), true),
    ReceiveInvite: ({ payload }) =>
      durably(federation.receiveInvite(payload.origin, payload.event, payload.version, payload.shown ?? []), true),
    ReceiveRetraction: ({ payload }) => durably(federation.receiveRetraction(payload.event), true),
    Servers: () => Effect.map(load, (room) => room.takingPart),
    JoinRemotely: ({ payload }) =>
      durably(federation.joinRemotely(payload.userId, payload.content, payload.servers), true),
    LeaveRemotely: ({ payload }) =>
      durably(transactions.once(payload.transaction, federation.leaveRemotely(payload)), true),
    KnockRemotely: ({ payload }) =>
      durably(federation.knockRemotely(payload.userId, payload.content, payload.servers), true),
    InviteRemotely: ({ payload: { content, invited, sender, transaction } }) =>
      durably(
        transactions.once(transaction, federation.inviteRemotely(sender, invited, content, transaction)),
        transaction !== undefined
      ),
    Backfill: ({ payload }) => withoutFaults(durably(federation.backfill(payload.limit, payload.at), true)),
    Reload: () => forget,
    SetTyping: ({ payload }) => typing.setTyping(payload.userId, payload.typing, payload.timeout)
  })
})

/**
 * Registers the actor with the runner. Requests of one room run side by side; their order is that of the synchronous
 * steps. An idle room is passivated after longer than anybody may be typing.
 */
export const layer = Room.toLayer(behaviour, {
  concurrency: "unbounded",
  maxIdleTime: maxTypingTimeout + 30_000,
  disableFatalDefects: true
})
