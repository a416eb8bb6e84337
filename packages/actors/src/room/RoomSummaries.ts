/**
 * Rooms as users outside see them: the list of public rooms, summaries, and the tree of a space.
 *
 * Rooms in which this server takes no part are described by other servers: those that a space names, or those that the
 * client names.
 *
 * Source: "Published room directory", "Room Summaries" and "Spaces" of the client-server specification.
 */
import type { Event } from "@greenroom/protocol/Event"
import {
  isRoomId,
  isServerName,
  type RoomAlias,
  type RoomId,
  type ServerName,
  type UserId
} from "@greenroom/protocol/Identifiers"
import type { JsonObject } from "@greenroom/protocol/Json"
import { Forbidden, InvalidParam, type MatrixError, NotFound } from "@greenroom/protocol/MatrixError"
import { roomVersion } from "@greenroom/room/RoomVersions"
import {
  type PublicRoomPosition,
  type PublicRoomStart,
  PublicRoomStore,
  type RoomLists
} from "@greenroom/store/PublicRoomStore"
import { RoomServerStore } from "@greenroom/store/RoomServerStore"
import { RoomStore } from "@greenroom/store/RoomStore"
import { type StateKey, type StateRef, StateStore } from "@greenroom/store/StateStore"
import { SyncStore } from "@greenroom/store/SyncStore"
import { Context, Effect, Layer, Option } from "effect"
import { parseInstanceId } from "../app-service/NetworkInstance.ts"
import { HomeServerConfig } from "../runtime/HomeServerConfig.ts"
import type { Session } from "../runtime/Session.ts"
import { allowedRooms } from "./internal/RestrictedJoins.ts"
import { makeRoomViewer } from "./internal/RoomViewer.ts"
import type { HierarchyRoom, PublicRooms, PublicRoomsRequest, RoomSummary } from "./PublicRooms.ts"
import { RemoteDirectory } from "./RemoteDirectory.ts"
import { Rooms } from "./Rooms.ts"

/** The most rooms of one answer, and how many there are where the client does not say. */
const maxPage = 100
const defaultPage = 50
/** How deep the tree of a space is walked, and over how many rooms. */
const maxDepth = 10
const maxTree = 1_000
/** How many times other servers are asked for one answer, how many of them for one room, and until when. */
const maxAsked = 50
const maxServersOfRoom = 3
const askingTime = 15_000

const summaryKeys: ReadonlyArray<StateKey> = [
  ["m.room.create", ""],
  ["m.room.name", ""],
  ["m.room.topic", ""],
  ["m.room.canonical_alias", ""],
  ["m.room.avatar", ""],
  ["m.room.join_rules", ""],
  ["m.room.history_visibility", ""],
  ["m.room.guest_access", ""],
  ["m.room.encryption", ""]
]

export interface HierarchyRequest {
  readonly suggestedOnly: boolean
  readonly maxDepth?: number | undefined
  readonly limit?: number | undefined
  readonly from?: string | undefined
}

const textOf = (event: Event | undefined, key: string): string | undefined => {
  const value = event?.content[key]
  return typeof value === "string" && value !== "" ? value : undefined
}

const withoutUndefined = <T extends object>(object: T): T =>
  Object.fromEntries(Object.entries(object).filter(([, value]) => value !== undefined)) as T

const summaryOf = (roomId: RoomId, state: ReadonlyArray<Event>, joined: number): RoomSummary => {
  const find = (type: string) => state.find((event) => event.type === type)
  const joinRules = find("m.room.join_rules")
  const allowed = allowedRooms(joinRules)
  return withoutUndefined({
    room_id: roomId,
    num_joined_members: joined,
    world_readable: textOf(find("m.room.history_visibility"), "history_visibility") === "world_readable",
    guest_can_join: textOf(find("m.room.guest_access"), "guest_access") === "can_join",
    name: textOf(find("m.room.name"), "name"),
    topic: textOf(find("m.room.topic"), "topic"),
    canonical_alias: textOf(find("m.room.canonical_alias"), "alias"),
    avatar_url: textOf(find("m.room.avatar"), "url"),
    join_rule: textOf(joinRules, "join_rule") ?? "invite",
    room_type: textOf(find("m.room.create"), "type"),
    room_version: textOf(find("m.room.create"), "room_version") ?? "1",
    encryption: textOf(find("m.room.encryption"), "algorithm"),
    allowed_room_ids: allowed.length === 0 ? undefined : allowed
  }) as RoomSummary
}

/** The start of a page of the list: the members and the number of the room before it, or after it. */
const parseSince = (since: string): Effect.Effect<PublicRoomStart, InvalidParam> => {
  const [, direction, joined, roomNid] = /^([pq])([0-9]{1,9})_([0-9]{1,15})$/.exec(since) ?? []
  return joined === undefined || roomNid === undefined
    ? Effect.fail(new InvalidParam({ error: "since: is no token of this list" }))
    : Effect.succeed({ joinedMembers: Number(joined), roomNid: Number(roomNid), backwards: direction === "q" })
}

const formatSince = (direction: "p" | "q", { joinedMembers, roomNid }: PublicRoomPosition): string =>
  `${direction}${joinedMembers}_${roomNid}`

const byOrder = (a: Event, b: Event): number => {
  const [left, right] = [a, b].map(({ content }) =>
    typeof content.order === "string" && /^[\x20-\x7e]{1,50}$/.test(content.order) ? content.order : undefined
  )
  if (left !== right) {
    if (left === undefined) return 1
    if (right === undefined) return -1
    return left < right ? -1 : 1
  }
  return a.origin_server_ts - b.origin_server_ts || ((a.state_key ?? "") < (b.state_key ?? "") ? -1 : 1)
}

const make = Effect.gen(function* () {
  const { serverName } = yield* HomeServerConfig
  const list = yield* PublicRoomStore
  const roomStore = yield* RoomStore
  const roomServers = yield* RoomServerStore
  const remote = yield* RemoteDirectory
  const rooms = yield* Rooms
  const states = yield* StateStore
  const sync = yield* SyncStore
  const viewer = yield* makeRoomViewer

  interface Known {
    readonly roomId: RoomId
    readonly roomNid: number
    readonly state: StateRef
  }

  /** Those of the rooms that this server takes part in. */
  const known = Effect.fnUntraced(function* (roomIds: ReadonlyArray<RoomId>) {
    const found = yield* Effect.forEach(roomIds, (roomId) =>
      Effect.map(
        roomStore.currentState(roomId),
        Option.map((current): Known => ({ roomId, ...current }))
      )
    )
    return found.flatMap((room) => Option.toArray(room))
  })

  const summarise = Effect.fnUntraced(function* (found: ReadonlyArray<Known>) {
    const [entries, counts] = yield* Effect.all([
      states.read(
        found.map(({ roomNid, state }) => ({ roomNid, ref: state })),
        { keys: summaryKeys }
      ),
      sync.memberCounts(found.map(({ roomNid }) => roomNid))
    ])
    const byRoom = Map.groupBy(entries, ({ roomNid }) => roomNid)
    return found.map(({ roomId, roomNid }) =>
      summaryOf(
        roomId,
        (byRoom.get(roomNid) ?? []).map(({ event }) => event),
        counts.get(roomNid)?.joined ?? 0
      )
    )
  })

  /** Which lists a request reads; undefined for a network that nothing names. */
  const listsOf = ({ allNetworks, network }: PublicRoomsRequest): RoomLists | undefined => {
    if (network === undefined) return allNetworks ? "all" : "own"
    return parseInstanceId(network)
  }

  const publicRooms = Effect.fn("RoomSummaries.publicRooms")(function* (request: PublicRoomsRequest) {
    const lists = listsOf(request)
    if (lists === undefined) return { chunk: [], total_room_count_estimate: 0 } satisfies PublicRooms
    const start = request.since === undefined ? undefined : yield* parseSince(request.since)
    const limit = Math.min(Math.max(request.limit ?? defaultPage, 1), maxPage)
    const { next, previous, rooms: page } = yield* list.page(start, limit, request.search, lists)
    const summaries = yield* summarise(yield* known(page.map(({ roomId }) => roomId)))
    const wanted = summaries.filter(
      ({ room_type = null }) => request.types === undefined || request.types.includes(room_type)
    )
    return {
      chunk: wanted,
      ...(next === undefined ? {} : { next_batch: formatSince("p", next) }),
      ...(previous === undefined ? {} : { prev_batch: formatSince("q", previous) }),
      total_room_count_estimate: wanted.length
    } satisfies PublicRooms
  })

  const publicRoomsOf = (server: ServerName, request: PublicRoomsRequest) =>
    server === serverName ? publicRooms(request) : remote.publicRooms(server, request)

  const membershipOf = Effect.fnUntraced(function* (userId: UserId, roomId: RoomId) {
    const found = yield* roomStore.membership(userId, roomId)
    return Option.isSome(found) ? found.value.membership : "leave"
  })

  /** Whether a user is in one of the rooms whose members a restricted room lets in. */
  const isAllowed = Effect.fnUntraced(function* (userId: UserId, allowed: ReadonlyArray<RoomId>) {
    for (const roomId of allowed.slice(0, 50)) {
      if ((yield* membershipOf(userId, roomId)) === "join") return true
    }
    return false
  })

  /** Whether a user may know of the room: by being in it, or being allowed to join or read it. */
  const mayKnow = Effect.fnUntraced(function* (userId: UserId | undefined, room: RoomSummary) {
    if (room.world_readable || room.join_rule === "public") return true
    if (room.join_rule === "knock" || room.join_rule === "knock_restricted") return true
    if (userId === undefined) return false
    const membership = yield* membershipOf(userId, room.room_id)
    if (membership === "join" || membership === "invite") return true
    return room.join_rule === "restricted" && (yield* isAllowed(userId, room.allowed_room_ids ?? []))
  })

  const unknown = new NotFound({ error: "There is no such room that you may know of" })

  /** The children of a space in their order: valid ones, which name a server. */
  const childrenOf = Effect.fnUntraced(function* ({ roomNid, state }: Known, suggestedOnly: boolean) {
    const entries = yield* states.read([{ roomNid, ref: state }], { types: ["m.space.child"] })
    return entries
      .map(({ event }) => event)
      .filter(
        ({ content, state_key }) =>
          Array.isArray(content.via) &&
          content.via.length > 0 &&
          state_key !== undefined &&
          isRoomId(state_key) &&
          (!suggestedOnly || content.suggested === true)
      )
      .sort(byOrder)
  })

  /**
   * Asks other servers for the rooms of one answer. A room that one server described as a child of a space is not asked for
   * again.
   */
  const makeAsking = (suggestedOnly: boolean) => {
    const summaries = new Map<RoomId, HierarchyRoom>()
    const end = performance.now() + askingTime
    let left = maxAsked
    return Effect.fnUntraced(function* (roomId: RoomId, via: unknown) {
      const before = summaries.get(roomId)
      if (before !== undefined && before.room_type !== "m.space") return before
      const servers = (Array.isArray(via) ? via : [])
        .filter(
          (entry): entry is ServerName => typeof entry === "string" && isServerName(entry) && entry !== serverName
        )
        .slice(0, maxServersOfRoom)
      for (const server of servers) {
        if (left-- <= 0 || performance.now() > end) return undefined
        const part = yield* Effect.option(remote.hierarchy(server, roomId, suggestedOnly))
        if (Option.isNone(part) || part.value.room.room_id !== roomId) continue
        for (const child of part.value.children) summaries.set(child.room_id, child)
        return part.value.room
      }
      return undefined
    })
  }

  /** A room that other servers know. */
  const remoteSummary = Effect.fnUntraced(function* (roomId: RoomId, via: ReadonlyArray<ServerName>) {
    const found = yield* makeAsking(false)(roomId, via)
    if (found === undefined) return undefined
    const { children_state: _, ...room } = found
    return room satisfies RoomSummary
  })

  const summary = Effect.fn("RoomSummaries.summary")(function* (
    session: Session | undefined,
    roomIdOrAlias: RoomId | RoomAlias,
    via: ReadonlyArray<ServerName>
  ) {
    const { room_id: roomId, servers } = isRoomId(roomIdOrAlias)
      ? { room_id: roomIdOrAlias, servers: [] }
      : yield* rooms.resolveAlias(roomIdOrAlias)
    const [own] = yield* summarise(yield* known([roomId]))
    if (session === undefined) return own !== undefined && (yield* mayKnow(undefined, own)) ? own : yield* unknown
    const room = own ?? (yield* remoteSummary(roomId, [...via, ...servers]))
    if (room === undefined || !(yield* mayKnow(session.userId, room))) return yield* unknown
    return { ...room, membership: yield* membershipOf(session.userId, roomId) }
  })

  const localEntry = Effect.fnUntraced(function* (roomId: RoomId, suggestedOnly: boolean) {
    const [room] = yield* known([roomId])
    if (room === undefined) return undefined
    const [summary] = yield* summarise([room])
    if (summary === undefined) return undefined
    return treeEntry(summary, summary.room_type === "m.space" ? yield* childrenOf(room, suggestedOnly) : [])
  })

  /** The first rooms of a space, each once, parents before their children; depth first, as clients show them. */
  const walk = Effect.fnUntraced(function* (session: Session, root: RoomId, request: HierarchyRequest, most: number) {
    const depthLimit = Math.min(request.maxDepth ?? maxDepth, maxDepth)
    const tree: Array<HierarchyRoom> = []
    const seen = new Set<RoomId>()
    const ask = makeAsking(request.suggestedOnly)
    const stack: Array<{ readonly roomId: RoomId; readonly depth: number; readonly via: unknown }> = [
      { roomId: root, depth: 0, via: [] }
    ]
    while (stack.length > 0 && tree.length < most) {
      const { depth, roomId, via } = stack.pop()!
      if (seen.has(roomId)) continue
      seen.add(roomId)
      const entry = (yield* localEntry(roomId, request.suggestedOnly)) ?? (yield* ask(roomId, via))
      if (entry === undefined || !(yield* mayKnow(session.userId, entry))) continue
      tree.push(entry)
      if (depth >= depthLimit) continue
      for (const { content, state_key } of entry.children_state.toReversed()) {
        stack.push({ roomId: state_key as RoomId, depth: depth + 1, via: (content as JsonObject).via })
      }
    }
    return tree
  })

  const hierarchy = Effect.fn("RoomSummaries.hierarchy")(function* (
    session: Session,
    roomId: RoomId,
    request: HierarchyRequest
  ) {
    const limit = Math.min(Math.max(request.limit ?? defaultPage, 1), maxPage)
    const start = request.from === undefined ? 0 : Number(/^h([0-9]{1,6})$/.exec(request.from)?.[1] ?? Number.NaN)
    if (Number.isNaN(start)) return yield* new InvalidParam({ error: "from: is no token of this hierarchy" })
    const tree = yield* walk(session, roomId, request, Math.min(maxTree, start + limit + 1))
    if (tree[0]?.room_id !== roomId)
      return yield* new Forbidden({ error: "There is no such room that you may know of" })
    return {
      rooms: tree.slice(start, start + limit),
      ...(tree.length > start + limit ? { next_batch: `h${start + limit}` } : {})
    }
  })

  /** Whether users of a server may know of the room. */
  const mayServerKnow = Effect.fnUntraced(function* (server: ServerName, room: RoomSummary) {
    if (yield* mayKnow(undefined, room)) return true
    const servers = yield* roomServers.serversOf([room.room_id, ...(room.allowed_room_ids ?? []).slice(0, 50)])
    const here = servers.get(room.room_id) ?? []
    if (here.includes(server)) return true
    const isRestricted = room.join_rule === "restricted" || room.join_rule === "knock_restricted"
    return isRestricted && [...servers.values()].some((of) => of.includes(server))
  })

  const treeEntry = (room: RoomSummary, children: ReadonlyArray<Event>): HierarchyRoom => ({
    ...room,
    children_state: children.map(({ content, origin_server_ts, sender, state_key = "", type }) => ({
      type,
      state_key,
      sender,
      content,
      origin_server_ts
    }))
  })

  const hierarchyFor = Effect.fn("RoomSummaries.hierarchyFor")(function* (
    server: ServerName,
    roomId: RoomId,
    suggestedOnly: boolean
  ) {
    const entryOf = Effect.fnUntraced(function* (of: RoomId) {
      const [room] = yield* known([of])
      if (room === undefined) return undefined
      const [summary] = yield* summarise([room])
      if (summary === undefined || !(yield* mayServerKnow(server, summary))) return "inaccessible" as const
      return treeEntry(summary, summary.room_type === "m.space" ? yield* childrenOf(room, suggestedOnly) : [])
    })
    const root = yield* entryOf(roomId)
    if (root === undefined || root === "inaccessible") return yield* unknown
    const children: Array<HierarchyRoom> = []
    const inaccessible: Array<RoomId> = []
    for (const { state_key } of root.children_state.slice(0, maxTree)) {
      const child = yield* entryOf(state_key as RoomId)
      if (child === "inaccessible") inaccessible.push(state_key as RoomId)
      else if (child !== undefined) children.push(child)
    }
    return { room: root, children, inaccessible_children: inaccessible }
  })

  const isListed = Effect.fnUntraced(function* (roomId: RoomId) {
    const listed = yield* list.isListed(roomId)
    return Option.isSome(listed) ? listed.value : yield* new NotFound({ error: `There is no room ${roomId}` })
  })

  /** Members who may set the canonical alias of the room. */
  const setListed = Effect.fn("RoomSummaries.setListed")(function* (session: Session, roomId: RoomId, listed: boolean) {
    yield* isListed(roomId)
    const seen = yield* viewer.view(session.userId, roomId)
    if (!seen.reader.isJoined) return yield* viewer.outside(session.userId, roomId)
    const state = yield* viewer.stateOf(seen, {
      keys: [
        ["m.room.create", ""],
        ["m.room.power_levels", ""]
      ]
    })
    const id = yield* roomStore.version(roomId)
    const version = Option.isSome(id) ? roomVersion(id.value) : undefined
    const levels = version?.levels((type, stateKey) =>
      state.find((event) => event.type === type && event.state_key === stateKey)
    )
    if (levels === undefined || levels.user(session.userId) < levels.event("m.room.canonical_alias", true)) {
      return yield* new Forbidden({
        error: `Listing a room on ${serverName} takes the power to set its canonical alias`
      })
    }
    yield* list.setListed(roomId, listed)
  })

  /** Application services list the rooms of their networks. */
  const setListedIn = Effect.fn("RoomSummaries.setListedIn")(function* (
    session: Session,
    networkId: string,
    roomId: RoomId,
    listed: boolean
  ) {
    const serviceId = session.appService
    if (serviceId === undefined)
      return yield* new Forbidden({ error: "Application services alone list rooms of networks" })
    yield* isListed(roomId)
    yield* list.setListedIn({ serviceId, networkId }, roomId, listed)
  })

  return RoomSummaries.of({
    publicRooms,
    publicRoomsOf,
    setListedIn,
    summary,
    hierarchy,
    hierarchyFor,
    isListed,
    setListed
  })
})

export class RoomSummaries extends Context.Service<
  RoomSummaries,
  {
    /** The public rooms of this server, the largest first. Anyone. Errors: M_INVALID_PARAM. */
    readonly publicRooms: (request: PublicRoomsRequest) => Effect.Effect<PublicRooms, MatrixError>
    /** The same of this or another server. Errors: M_NOT_FOUND where it cannot be asked. */
    readonly publicRoomsOf: (server: ServerName, request: PublicRoomsRequest) => Effect.Effect<PublicRooms, MatrixError>
    /**
     * The summary of one room, which the named servers give for a room that this one lacks. Callers: users who are in it, may
     * join it or may read it; without a session, only rooms open to all.
     */
    readonly summary: (
      session: Session | undefined,
      roomIdOrAlias: RoomId | RoomAlias,
      via: ReadonlyArray<ServerName>
    ) => Effect.Effect<RoomSummary & { readonly membership?: string }, MatrixError>
    /** A room and, if it is a space, the rooms in it that the user may know of. Errors: M_FORBIDDEN, M_INVALID_PARAM. */
    readonly hierarchy: (
      session: Session,
      roomId: RoomId,
      request: HierarchyRequest
    ) => Effect.Effect<{ readonly rooms: ReadonlyArray<HierarchyRoom>; readonly next_batch?: string }, MatrixError>
    /** A room and its children, as far as users of a server may know of them. Errors: M_NOT_FOUND. */
    readonly hierarchyFor: (
      server: ServerName,
      roomId: RoomId,
      suggestedOnly: boolean
    ) => Effect.Effect<
      {
        readonly room: HierarchyRoom
        readonly children: ReadonlyArray<HierarchyRoom>
        readonly inaccessible_children: ReadonlyArray<RoomId>
      },
      MatrixError
    >
    /** Whether the room is in the list of public rooms. Anyone. Errors: M_NOT_FOUND. */
    readonly isListed: (roomId: RoomId) => Effect.Effect<boolean, MatrixError>
    /** Members with the power to set the canonical alias. */
    readonly setListed: (session: Session, roomId: RoomId, listed: boolean) => Effect.Effect<void, MatrixError>
    /** Lists a room in a network of an application service. That service. Errors: M_FORBIDDEN, M_NOT_FOUND. */
    readonly setListedIn: (
      session: Session,
      networkId: string,
      roomId: RoomId,
      listed: boolean
    ) => Effect.Effect<void, MatrixError>
  }
>()("greenroom/actors/RoomSummaries") {
  static readonly layer = Layer.effect(RoomSummaries, make)
}
