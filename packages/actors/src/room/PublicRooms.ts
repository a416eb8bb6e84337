/**
 * Rooms as lists of public rooms have them.
 *
 * Source: "Published room directory" of the client-server specification.
 */
import type { RoomId } from "@greenroom/protocol/Identifiers"
import type { JsonObject } from "@greenroom/protocol/Json"

/** A room as a summary has it, `PublishedRoomsChunk` and more. */
export interface RoomSummary {
  readonly room_id: RoomId
  readonly num_joined_members: number
  readonly world_readable: boolean
  readonly guest_can_join: boolean
  readonly name?: string
  readonly topic?: string
  readonly canonical_alias?: string
  readonly avatar_url?: string
  readonly join_rule?: string
  readonly room_type?: string
  readonly room_version?: string
  readonly encryption?: string
  readonly allowed_room_ids?: ReadonlyArray<RoomId>
}

/** A room in the tree of a space, with its m.space.child events. */
export type HierarchyRoom = RoomSummary & { readonly children_state: ReadonlyArray<JsonObject> }

/** A server's summary of a space: the room itself, and those of its children that our users may know of. */
export interface HierarchyPart {
  readonly room: HierarchyRoom
  readonly children: ReadonlyArray<HierarchyRoom>
  /** Rooms in the space that none of our users can enter or read. */
  readonly inaccessible: ReadonlyArray<RoomId>
}

/** A page of the tree of a space. */
export interface HierarchyPage {
  readonly rooms: ReadonlyArray<HierarchyRoom>
  readonly next_batch?: string
}

/** A request for a page of the tree of a space. */
export interface HierarchyRequest {
  readonly suggestedOnly: boolean
  readonly maxDepth?: number | undefined
  readonly limit?: number | undefined
  /** The `next_batch` of the page before. */
  readonly from?: string | undefined
}

/** A request for a page of the list of public rooms. */
export interface PublicRoomsRequest {
  readonly limit?: number | undefined
  readonly since?: string | undefined
  readonly search?: string | undefined
  /** Types of rooms; null stands for rooms without a type. Undefined for all. */
  readonly types?: ReadonlyArray<string | null> | undefined
  /** The lists of all networks beside the server's own. */
  readonly allNetworks?: boolean | undefined
  /** The list of one network alone, by its `instance_id`. */
  readonly network?: string | undefined
}

/** A page of the list of public rooms. */
export interface PublicRooms {
  readonly chunk: ReadonlyArray<RoomSummary>
  readonly next_batch?: string
  readonly prev_batch?: string
  /** How many rooms all pages have together, as far as that is known. */
  readonly total_room_count_estimate?: number
}
