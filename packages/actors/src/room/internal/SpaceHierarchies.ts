/**
 * The tree of a space, for clients and for other servers. Rooms in which this server takes no part are described by servers that
 * the space names.
 *
 * Source: "Spaces" of the client-server specification, and of the server-server specification.
 */
import type { Event } from "@greenroom/protocol/Event"
import { isRoomId, isServerName, type RoomId, type ServerName } from "@greenroom/protocol/Identifiers"
import type { JsonObject } from "@greenroom/protocol/Json"
import { Forbidden, InvalidParam, NotFound } from "@greenroom/protocol/MatrixError"
import { whileWaiting } from "@greenroom/store/LargeReads"
import { monotonicMillis } from "@greenroom/store/MonotonicClock"
import { StateStore } from "@greenroom/store/StateStore"
import { Effect, Option } from "effect"
import { HomeServerConfig } from "../../runtime/HomeServerConfig.ts"
import type { Session } from "../../runtime/Session.ts"
import type { HierarchyRequest, HierarchyRoom, RoomSummary } from "../PublicRooms.ts"
import { RemoteDirectory } from "../RemoteDirectory.ts"
import type { HeldRoom, RoomSummaryReads } from "./RoomSummaryReads.ts"
import { makeViaServers } from "./ViaServers.ts"

/** The most rooms of one answer, and the number if the client names none. */
const maxPage = 100
const defaultPage = 50
/** How deep the tree of a space is walked, and over how many rooms. */
const maxDepth = 10
const maxTree = 1_000
/** How many times other servers are asked for one answer, how many of them for one room, and for how long, in ms. */
const maxAsked = 50
const maxServersOfRoom = 3
const askingTimeout = 15_000

/** How deep the tree is walked. */
const depthOf = (request: HierarchyRequest): number => Math.min(request.maxDepth ?? maxDepth, maxDepth)

/** The token of a page: its start among the rooms of the whole tree, and what the tree depends on. */
const formatPage = (start: number, request: HierarchyRequest): string =>
  `h${start}_${request.suggestedOnly ? "s" : "a"}${depthOf(request)}`

/** The start of a page. Errors: M_INVALID_PARAM. */
const parsePage = (request: HierarchyRequest): Effect.Effect<number, InvalidParam> => {
  const { from } = request
  if (from === undefined) return Effect.succeed(0)
  const start = /^h([0-9]{1,6})_[as][0-9]+$/.exec(from)?.[1]
  if (start === undefined) return Effect.fail(new InvalidParam({ error: "from: is not a token of this hierarchy" }))
  return from === formatPage(Number(start), request)
    ? Effect.succeed(Number(start))
    : Effect.fail(new InvalidParam({ error: "suggested_only, max_depth: must be those of the first page" }))
}

const noSuchRoom = "There is no such room that you may know of"

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

export const makeSpaceHierarchies = Effect.fnUntraced(function* (reads: RoomSummaryReads) {
  const { held, mayKnow, mayServerKnow, summarise } = reads
  const { serverName } = yield* HomeServerConfig
  const remote = yield* RemoteDirectory
  const states = yield* StateStore
  const { serversFor } = yield* makeViaServers

  /** The children of a space in their order: valid ones, which name a server. */
  const childrenOf = Effect.fnUntraced(function* ({ roomNid, state }: HeldRoom, suggestedOnly: boolean) {
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
   * again, nor is one that our users have no access to.
   */
  const askOthers = (suggestedOnly: boolean) =>
    Effect.map(monotonicMillis, (begun) => {
      const summaries = new Map<RoomId, HierarchyRoom>()
      const inaccessible = new Set<RoomId>()
      let left = maxAsked
      return Effect.fnUntraced(function* (roomId: RoomId, via: unknown) {
        const before = summaries.get(roomId)
        if (before !== undefined && before.room_type !== "m.space") return before
        if (inaccessible.has(roomId)) return undefined
        for (const server of serversIn(via)) {
          if (left-- <= 0 || (yield* monotonicMillis) > begun + askingTimeout) return undefined
          const part = yield* Effect.option(whileWaiting(remote.hierarchy(server, roomId, suggestedOnly)))
          if (Option.isNone(part) || part.value.room.room_id !== roomId) continue
          for (const child of part.value.children) summaries.set(child.room_id, child)
          for (const child of part.value.inaccessible) inaccessible.add(child)
          return part.value.room
        }
        return undefined
      })
    })

  /** The servers of a `via` that are asked. */
  const serversIn = (via: unknown): ReadonlyArray<ServerName> =>
    (Array.isArray(via) ? via : [])
      .filter((entry): entry is ServerName => typeof entry === "string" && isServerName(entry) && entry !== serverName)
      .slice(0, maxServersOfRoom)

  const localEntry = Effect.fnUntraced(function* (roomId: RoomId, suggestedOnly: boolean) {
    const [room] = yield* held([roomId])
    if (room === undefined) return undefined
    const [summary] = yield* summarise([room])
    if (summary === undefined) return undefined
    return treeEntry(summary, summary.room_type === "m.space" ? yield* childrenOf(room, suggestedOnly) : [])
  })

  /** The rooms that users may know of. Rooms that this server lacks are described by others. */
  const knownToUser = Effect.fnUntraced(function* ({ userId }: Session, suggestedOnly: boolean) {
    const ask = yield* askOthers(suggestedOnly)
    return Effect.fnUntraced(function* (roomId: RoomId, via: unknown) {
      const entry = (yield* localEntry(roomId, suggestedOnly)) ?? (yield* ask(roomId, via))
      return entry !== undefined && (yield* mayKnow(userId, entry)) ? entry : undefined
    })
  })

  /** The first rooms of a space, each once, parents before their children; depth first, as clients show them. */
  const walk = Effect.fnUntraced(function* (
    root: { readonly roomId: RoomId; readonly via: ReadonlyArray<ServerName> },
    request: HierarchyRequest,
    most: number,
    entryOf: (roomId: RoomId, via: unknown) => Effect.Effect<HierarchyRoom | undefined>
  ) {
    const depthLimit = depthOf(request)
    const tree: Array<HierarchyRoom> = []
    const seen = new Set<RoomId>()
    const stack: Array<{ readonly roomId: RoomId; readonly depth: number; readonly via: unknown }> = [
      { ...root, depth: 0 }
    ]
    while (stack.length > 0 && tree.length < most) {
      const { depth, roomId, via } = stack.pop()!
      if (seen.has(roomId)) continue
      seen.add(roomId)
      const entry = yield* entryOf(roomId, via)
      if (entry === undefined) continue
      tree.push(entry)
      if (depth >= depthLimit) continue
      for (const { content, state_key } of entry.children_state.toReversed()) {
        stack.push({ roomId: state_key as RoomId, depth: depth + 1, via: (content as JsonObject).via })
      }
    }
    return tree
  })

  const pageOf = Effect.fnUntraced(function* (
    root: { readonly roomId: RoomId; readonly via: ReadonlyArray<ServerName> },
    request: HierarchyRequest,
    entryOf: (roomId: RoomId, via: unknown) => Effect.Effect<HierarchyRoom | undefined>
  ) {
    const limit = Math.min(Math.max(request.limit ?? defaultPage, 1), maxPage)
    const start = yield* parsePage(request)
    const tree = yield* walk(root, request, Math.min(maxTree, start + limit + 1), entryOf)
    if (tree[0]?.room_id !== root.roomId) return undefined
    return {
      rooms: tree.slice(start, start + limit),
      ...(tree.length > start + limit ? { next_batch: formatPage(start + limit, request) } : {})
    }
  })

  const hierarchy = Effect.fn("RoomSummaries.hierarchy")(function* (
    session: Session,
    roomId: RoomId,
    request: HierarchyRequest
  ) {
    // A space that the user is only invited to is described by the server of the inviter.
    const root = { roomId, via: yield* serversFor(session.userId, roomId, []) }
    const page = yield* pageOf(root, request, yield* knownToUser(session, request.suggestedOnly))
    return page ?? (yield* new Forbidden({ error: noSuchRoom }))
  })

  const localHierarchy = Effect.fn("RoomSummaries.localHierarchy")(function* (
    roomId: RoomId,
    request: HierarchyRequest
  ) {
    const page = yield* pageOf({ roomId, via: [] }, request, (of) => localEntry(of, request.suggestedOnly))
    return page ?? (yield* new NotFound({ error: `There is no room ${roomId}` }))
  })

  const hierarchyFor = Effect.fn("RoomSummaries.hierarchyFor")(function* (
    server: ServerName,
    roomId: RoomId,
    suggestedOnly: boolean
  ) {
    const known = Effect.fnUntraced(function* (of: RoomId) {
      const [room] = yield* held([of])
      const [summary] = room === undefined ? [] : yield* summarise([room])
      if (room === undefined || summary === undefined) return undefined
      return { room, summary, isAccessible: yield* mayServerKnow(server, summary) }
    })
    const root = yield* known(roomId)
    if (root?.isAccessible !== true) return yield* new NotFound({ error: noSuchRoom })
    const ofRoot = root.summary.room_type === "m.space" ? yield* childrenOf(root.room, suggestedOnly) : []
    const children: Array<RoomSummary> = []
    const inaccessible: Array<RoomId> = []
    for (const { state_key } of ofRoot.slice(0, maxTree)) {
      const child = yield* known(state_key as RoomId)
      if (child?.isAccessible === true) children.push(child.summary)
      else if (child !== undefined) inaccessible.push(state_key as RoomId)
    }
    return { room: treeEntry(root.summary, ofRoot), children, inaccessible_children: inaccessible }
  })

  return { hierarchy, localHierarchy, hierarchyFor, askOthers }
})
