/**
 * The Room actor: owns a room on this home server and is the only writer of its events. It puts events in order in
 * memory, hands them to the event log, and answers each caller when its own event is durable; while one commit is under
 * way the next events are ordered already, so a hot room is not limited to one event a commit.
 *
 * If a commit fails, or the log says that another writer has opened the room, the actor forgets what it holds and
 * reloads it from the store.
 *
 * Source: "Room structure" and "Rooms" of the specification.
 */
import type { Event } from "@greenroom/protocol/Event"
import { type EventId, serverNameOf, type UserId } from "@greenroom/protocol/Identifiers"
import type { JsonObject } from "@greenroom/protocol/Json"
import {
  BadJson,
  Forbidden,
  GuestAccessForbidden,
  InvalidParam,
  type MatrixError,
  NotFound,
  TooLarge
} from "@greenroom/protocol/MatrixError"
import { needsRecommendation } from "@greenroom/room/RoomPolicy"
import type { EventProposal, PduProblem, StateLookup } from "@greenroom/room/RoomVersion"
import type { SigningKey } from "@greenroom/room/Signing"
import { type CommitFailed, EventStatus, type StaleWriter } from "@greenroom/store/EventLog"
import { EventStore, type StoredEvent } from "@greenroom/store/EventStore"
import { CurrentAllowance } from "@greenroom/store/LargeReads"
import { Effect, FiberMap, Result } from "effect"
import { EphemeralStream } from "../presence/EphemeralStream.ts"
import { HomeServerConfig } from "../runtime/HomeServerConfig.ts"
import { mayPass } from "../runtime/ItemFailure.ts"
import { defaultLimits } from "../runtime/Limits.ts"
import { letsGuestsIn } from "./GuestAccess.ts"
import { withReplaced } from "./internal/ReplacedState.ts"
import { makeRoomFederation } from "./internal/RoomFederation.ts"
import type { RoomState } from "./internal/RoomState.ts"
import { creationScope, transactionKey } from "./internal/RoomTransactions.ts"
import { makeRoomWriter } from "./internal/RoomWriter.ts"
import { type Create, type CreatedRoom, type Redact, Room, type RoomTransaction } from "./RoomProtocol.ts"
import { requireAdmitted } from "./ServerAcl.ts"

// --- State ----------------------------------------------------------------------------------------------------------

/** The longest time that a user types without a further request, in milliseconds. */
const maxTypingTimeout = 120_000

/** Memberships up to this many bytes are accepted, whatever the size of the room's state. */
const usualMembership = 2_048

interface ProposeOptions {
  readonly at?: number | undefined
  readonly banned?: boolean | undefined
  readonly guest?: boolean | undefined
}

const refusePdu = (problem: PduProblem): MatrixError =>
  problem._tag === "TooLarge"
    ? new TooLarge({ error: `The event has ${problem.bytes} bytes; 65536 are the limit` })
    : new BadJson({ error: problem.reason })

const noRedactions = (): ReadonlyArray<Event> => []

const sameContent = (a: JsonObject, b: JsonObject): boolean => JSON.stringify(a) === JSON.stringify(b)

/** The device that sends an event gets its transaction ID back with it. */
const withTransaction = (event: Event, given?: RoomTransaction): Event =>
  given === undefined || given.ofServer
    ? event
    : { ...event, unsigned: { ...event.unsigned, transaction: { tokenId: given.tokenId, txnId: given.txnId } } }

/** An event that follows the current state. */
const replacing = (room: RoomState, event: Event): Event =>
  event.state_key === undefined ? event : withReplaced(room.version, event, room.lookup(event.type, event.state_key))

// --- Behaviour ------------------------------------------------------------------------------------------------------

const behaviour = Effect.gen(function* () {
  const { serverName } = yield* HomeServerConfig
  const events = yield* EventStore
  const ephemeral = yield* EphemeralStream
  const writer = yield* makeRoomWriter
  const {
    durably,
    forget,
    takeStep,
    load,
    loadExisting,
    log,
    nextChain,
    nextNid,
    roomId,
    rooms,
    signingKey,
    transactions,
    withNids
  } = writer
  const federation = yield* makeRoomFederation(writer)
  const { graph } = federation
  const typing = yield* FiberMap.make<UserId>()

  // Appending

  type Refused = { readonly refused: MatrixError }
  type Appended = { readonly event: Event; readonly durable: Effect.Effect<void, StaleWriter | CommitFailed> }
  type Also = (event: Event) => Parameters<RoomState["commit"]>[1]

  const answerTo = (transaction: RoomTransaction, { event_id }: Event) =>
    transactions.row(transaction, roomId, { event_id })

  const refusalOf = (room: RoomState, event: Event, state: StateLookup = room.lookup): MatrixError | undefined => {
    const refusal = room.version.authorise(event, state)
    if (refusal === undefined) return undefined
    return refusal.ofContent ? new BadJson({ error: refusal.rule }) : new Forbidden({ error: refusal.rule })
  }

  /**
   * Builds, authorises and appends one event, and queues its commit. Synchronous: this is its place in the order. Undefined
   * where the event cannot name all forward extremities.
   */
  const appendNow = (
    room: RoomState,
    proposal: EventProposal,
    now: number,
    key: SigningKey,
    transaction: RoomTransaction | undefined,
    also: Also
  ): Appended | Refused | undefined => {
    const others = room.extremities.length - 1
    if (others >= room.version.maxPrevEvents) return undefined
    const built = room.propose(proposal, now, key)
    if (Result.isFailure(built)) {
      return others > 0 && built.failure._tag === "TooLarge" ? undefined : { refused: refusePdu(built.failure) }
    }
    const refused = refusalOf(room, built.success)
    if (refused !== undefined) return { refused }
    const event = replacing(room, withTransaction(built.success, transaction))
    const step = room.beginStep()
    room.append(step, event, nextNid(), nextChain)
    return { event, durable: log.append(room.commit(step, also(event))) }
  }

  /**
   * Appends an event that names some of the forward extremities, or that a policy server is asked about first: it is placed
   * by the state after those that it names. The room may move on meanwhile.
   */
  const appendAmong = Effect.fnUntraced(function* (
    room: RoomState,
    proposal: EventProposal,
    now: number,
    key: SigningKey,
    transaction: RoomTransaction | undefined
  ) {
    const seal = room.policy === undefined ? room.sealFor(proposal, key) : key
    const { built, state } = yield* graph.build(room, proposal, now, serverName, seal)
    if (Result.isFailure(built)) return yield* Effect.fail(refusePdu(built.failure))
    const proposed = withTransaction(built.success, transaction)
    const refused = refusalOf(room, proposed, state) ?? refusalOf(room, proposed)
    if (refused !== undefined) return yield* Effect.fail(refused)
    const event = yield* federation.policies.recommended(room, proposed)
    const before = new Set(room.servers.keys())
    const placed = yield* graph.place(room, event, {
      relayTo: (after) => after.destinations(event, before),
      answers: transaction === undefined ? undefined : answerTo(transaction, event)
    })
    if (placed._tag !== "Placed" || placed.status !== EventStatus.timeline) {
      return yield* new Forbidden({ error: "The room has changed: the event is not allowed any more" })
    }
    yield* placed.durable
    return { event_id: event.event_id }
  })

  const append = (
    room: RoomState,
    proposal: EventProposal,
    transaction: RoomTransaction | undefined,
    redactions: (event: Event) => ReadonlyArray<Event> = noRedactions,
    at?: number
  ): Effect.Effect<{ readonly event_id: EventId }, MatrixError | StaleWriter | CommitFailed> =>
    Effect.flatMap(signingKey, (key) =>
      Effect.clockWith((clock) => {
        const now = at ?? clock.currentTimeMillisUnsafe()
        const among = () => appendAmong(room, proposal, now, key, transaction)
        if (room.policy !== undefined && needsRecommendation(proposal)) return among()
        const also: Also = (event) => ({
          transactions: transaction === undefined ? [] : [answerTo(transaction, event)],
          redactions: redactions(event)
        })
        return Effect.flatMap(
          takeStep(1, () => appendNow(room, proposal, now, key, transaction, also)),
          (appended) => {
            if (appended === undefined) return among()
            if ("refused" in appended) return Effect.fail(appended.refused)
            return Effect.as(appended.durable, { event_id: appended.event.event_id })
          }
        )
      })
    )

  // On Create

  const appendAll = (
    room: RoomState,
    create: Event,
    proposals: ReadonlyArray<EventProposal>,
    now: number,
    key: SigningKey,
    also: Parameters<RoomState["commit"]>[1]
  ): { readonly durable: Effect.Effect<void, StaleWriter | CommitFailed> } | Refused => {
    const step = room.beginStep()
    const append = (event: Event) => {
      const refused = refusalOf(room, event)
      if (refused === undefined) room.append(step, replacing(room, event), nextNid(), nextChain)
      return refused
    }
    const refused = append(create)
    if (refused !== undefined) return { refused }
    for (const proposal of proposals) {
      const built = room.propose(proposal, now, key)
      if (Result.isFailure(built)) return { refused: refusePdu(built.failure) }
      const refused = append(built.success)
      if (refused !== undefined) return { refused }
    }
    return { durable: log.append(room.commit(step, also)) }
  }

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
      appendAll(room, first, proposals, first.origin_server_ts, key, {
        transactions: transaction === undefined ? [] : [transactions.row(transaction, creationScope, response)]
      })
    )
    // A refused proposal leaves the room in memory half made: it is forgotten, as nothing was stored.
    if ("refused" in appended) return yield* Effect.andThen(forget, Effect.fail(appended.refused))
    yield* appended.durable
    return response
  })

  // On Propose

  /** The state event that says the same already, if there is one. */
  const alreadySo = (room: RoomState, proposal: EventProposal): Event | undefined => {
    if (proposal.state_key === undefined) return undefined
    const current = room.lookup(proposal.type, proposal.state_key)
    return current?.sender === proposal.sender && sameContent(current.content, proposal.content) ? current : undefined
  }

  /**
   * Only `unban` lifts a ban, and a banned user's membership cannot change otherwise. Users who are not in the room cannot
   * be kicked.
   */
  const mustBeBanned = (room: RoomState, userId: UserId, banned: boolean) => {
    const membership = room.membershipOf(userId)
    if (!banned && (membership === undefined || membership === "leave")) {
      return new Forbidden({ error: `${userId} is not in the room` })
    }
    if ((membership === "ban") === banned) return Effect.void
    return new Forbidden({ error: banned ? `${userId} is not banned` : `${userId} is banned: unban lifts the ban` })
  }

  const mustLetGuestsIn = (room: RoomState, { content, sender, state_key, type }: EventProposal) => {
    const joins = type === "m.room.member" && state_key === sender && content.membership === "join"
    if (!joins || room.membershipOf(sender) === "join" || letsGuestsIn(room.lookup("m.room.guest_access", ""))) {
      return Effect.void
    }
    return new GuestAccessForbidden({ error: "The room does not let guests in" })
  }

  const { stateBytes: stateLimit } = { ...defaultLimits, ...(yield* HomeServerConfig).limits }

  /** Whether the state would exceed its size limit. Small memberships are exempt. */
  const growsTooLarge = (room: RoomState, { content, state_key, type }: EventProposal): boolean => {
    if (state_key === undefined) return false
    const bytes = JSON.stringify(content).length
    if (type === "m.room.member" && bytes <= usualMembership) return false
    const replaced = room.lookup(type, state_key)
    const added = bytes - (replaced === undefined ? 0 : JSON.stringify(replaced.content).length)
    return added > 0 && room.stateBytes + added > stateLimit
  }

  /** Finds the member who authorises a user of ours to join a restricted room without an invitation. */
  const vouched = Effect.fnUntraced(function* (room: RoomState, proposal: EventProposal) {
    const { content, sender, state_key, type } = proposal
    if (type !== "m.room.member" || content.membership !== "join" || state_key !== sender) return proposal
    const { join_authorised_via_users_server: _, ...said } = content
    const voucher = yield* federation.restricted.vouch(room, sender)
    if (voucher === undefined) return { ...proposal, content: said }
    return { ...proposal, content: { ...said, join_authorised_via_users_server: voucher } }
  })

  const propose = (proposed: EventProposal, transaction: RoomTransaction | undefined, options: ProposeOptions = {}) =>
    Effect.flatMap(loadExisting, (room) =>
      proposed.state_key === undefined
        ? append(room, proposed, transaction, undefined, options.at)
        : proposeState(room, proposed, transaction, options)
    )

  const proposeState = Effect.fnUntraced(function* (
    room: RoomState,
    proposed: EventProposal,
    transaction: RoomTransaction | undefined,
    { at, banned, guest }: ProposeOptions
  ) {
    if (guest) yield* mustLetGuestsIn(room, proposed)
    const proposal = yield* vouched(room, proposed)
    const current = alreadySo(room, proposal)
    if (current !== undefined && room.membershipOf(proposal.sender) === "join") {
      const answer = { event_id: current.event_id }
      const remembered = transaction === undefined ? [] : [transactions.row(transaction, roomId, answer)]
      // The event that says so may still be queued itself: this commit is behind it.
      yield* log.append(room.commit(room.beginStep(), { transactions: remembered }))
      return answer
    }
    if (banned !== undefined) yield* mustBeBanned(room, proposal.state_key as UserId, banned)
    if (growsTooLarge(room, proposal)) {
      return yield* new TooLarge({ error: `The state of a room has at most ${stateLimit} bytes: replace some of it` })
    }
    const answer = yield* append(room, proposal, transaction, undefined, at)
    if (proposal.type === "m.room.member" && proposal.content.membership !== "join") {
      yield* stopTyping(proposal.state_key as UserId)
    }
    return answer
  })

  // On Redact

  /** The state events that carry the target's content, as they replaced it. Queued ones are waited for first. */
  const replacementsOf = Effect.fnUntraced(function* (room: RoomState, target: StoredEvent) {
    const { event_id, state_key, type } = target.event
    if (state_key === undefined || room.lookup(type, state_key)?.event_id === event_id) return []
    yield* graph.settled(room)
    return yield* events.replacementsOf(target)
  })

  /** Users outside the room do not learn whether it has the event. */
  const redact = Effect.fnUntraced(function* (payload: (typeof Redact)["payloadSchema"]["Type"]) {
    const room = yield* loadExisting
    if (room.membershipOf(payload.sender) !== "join") {
      return yield* new Forbidden({ error: "The sender must be in the room" })
    }
    const [found] = yield* events.byIds([payload.target])
    if (found !== undefined && found.roomNid !== room.roomNid) {
      return yield* new InvalidParam({ error: `${payload.target} is an event of another room` })
    }
    const stored = found
    const proposal: EventProposal = {
      room_id: roomId,
      type: "m.room.redaction",
      sender: payload.sender,
      redacts: payload.target,
      content: payload.reason === undefined ? {} : { reason: payload.reason }
    }
    const levels = room.version.levels(room.lookup)
    const isModerator = levels.user(payload.sender) >= levels.of("redact")
    if (stored === undefined) {
      // Other servers may have the event. Here it is stripped when it arrives.
      if (isModerator && room.servers.size > 1) return yield* append(room, proposal, payload.transaction, () => [])
      return yield* new NotFound({ error: `There is no event ${payload.target} in ${roomId}` })
    }
    const target = stored.event
    // The rules of rooms leave it to a server which of its users may redact events of each other.
    if (!isModerator && target.sender !== payload.sender) {
      return yield* new Forbidden({ error: "Redacting events of others takes the power level `redact`" })
    }
    const asEvent = { ...target, ...proposal, event_id: target.event_id } as Event
    const refusal = room.version.authoriseRedaction(asEvent, target, room.lookup)
    if (refusal !== undefined) return yield* new Forbidden({ error: refusal.rule })
    const replacements = yield* replacementsOf(room, stored)
    return yield* append(room, proposal, payload.transaction, (event) => {
      const redacted = { ...room.version.redact(target), unsigned: { redacted_because: event.event_id } }
      const current = target.state_key === undefined ? undefined : room.lookup(target.type, target.state_key)
      const replacing = new Map(
        [...replacements, ...(current?.replaces_state === target.event_id ? [current] : [])].map((replacement) => [
          replacement.event_id,
          { ...replacement, unsigned: { ...replacement.unsigned, prev_content: redacted.content } }
        ])
      )
      const stripped = [redacted, ...replacing.values()]
      for (const entry of stripped) room.applyRedaction(entry)
      return stripped
    })
  })

  // On RefreshMember

  const refreshMember = Effect.fnUntraced(function* (userId: UserId, profile: JsonObject) {
    const room = yield* loadExisting
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

  // On SetTyping

  const typists = new Set<UserId>()
  const publishTyping = Effect.suspend(() => ephemeral.publishTyping(roomId, [...typists]))
  const noLongerTypes = (userId: UserId) => Effect.suspend(() => (typists.delete(userId) ? publishTyping : Effect.void))
  const stopTyping = (userId: UserId) => Effect.andThen(FiberMap.remove(typing, userId), noLongerTypes(userId))

  // The room may go on at another node, which does not know who types.
  yield* Effect.addFinalizer(() => (typists.size === 0 ? Effect.void : ephemeral.publishTyping(roomId, [])))

  const setTyping = Effect.fnUntraced(function* (userId: UserId, isTyping: boolean, timeout: number) {
    const room = yield* loadExisting
    if (room.membershipOf(userId) !== "join") return yield* new Forbidden({ error: "The sender must be in the room" })
    const server = serverNameOf(userId)
    if (server !== room.ours) yield* requireAdmitted(room.lookup, server)
    if (!isTyping) return yield* stopTyping(userId)
    const after = Math.min(timeout, maxTypingTimeout)
    yield* FiberMap.run(typing, userId, Effect.andThen(Effect.sleep(after), noLongerTypes(userId)))
    if (typists.has(userId)) return
    typists.add(userId)
    yield* publishTyping
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
    Receive: ({ payload }) => durably(federation.receive(payload.origin, payload.events, payload.caution), true),
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
    LeaveRemotely: ({ payload }) => durably(federation.leaveRemotely(payload), true),
    KnockRemotely: ({ payload }) =>
      durably(federation.knockRemotely(payload.userId, payload.content, payload.servers), true),
    InviteRemotely: ({ payload: { content, invited, sender, transaction } }) =>
      durably(
        transactions.once(transaction, federation.inviteRemotely(sender, invited, content, transaction)),
        transaction !== undefined
      ),
    Backfill: ({ payload }) => withoutFaults(durably(federation.backfill(payload.limit, payload.at), true)),
    Reload: () => forget,
    SetTyping: ({ payload }) => setTyping(payload.userId, payload.typing, payload.timeout)
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
