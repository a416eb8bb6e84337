/**
 * The memberships that clients with lazy loading were sent, so that they are not sent again while they stay the same. Kept in the
 * memory of this node, for the devices that asked last: another node, or a forgotten device, sends them once more.
 *
 * A client has a membership if it asks from a position that is not before the end of the answer that had it. So an answer that was
 * lost on the way counts for nothing.
 *
 * Source: "Lazy-loading room members" of the client-server specification ("redundant membership events").
 */
import { createHash } from "node:crypto"
import type { Filter } from "@greenroom/protocol/client-server/Filter"
import type { Event } from "@greenroom/protocol/Event"
import type { EventId } from "@greenroom/protocol/Identifiers"
import { setNewest } from "@greenroom/store/BoundedMap"
import { comparePositions, type StreamPosition } from "@greenroom/store/StreamToken"
import type { Session } from "../../runtime/Session.ts"

interface Sent {
  readonly eventId: EventId
  /** The end of the answer. */
  readonly at: StreamPosition
}

/** How many memberships are remembered of a device, and of all. */
const maxOfDevice = 500
const maxOfAll = 50_000

/** The longest filter that is part of the name of a device as it is. */
const maxFilter = 64

/**
 * The name of a device with the filter that it uses; undefined if it wants the memberships again and again, or does not load members
 * lazily.
 */
export const lazyDevice = ({ deviceId, userId }: Session, given: string | undefined, { room }: Filter) => {
  const { include_redundant_members, lazy_load_members } = room?.state ?? {}
  if (lazy_load_members !== true || include_redundant_members === true) return undefined
  const filter = given ?? ""
  return `${userId} ${deviceId} ${filter.length <= maxFilter ? filter : createHash("sha256").update(filter).digest("base64")}`
}

const keyOf = (roomNid: number, userId: string): string => `${roomNid} ${userId}`

export class SentMembers {
  /** The device that asked longest ago comes first. */
  private readonly devices = new Map<string, Map<string, Sent>>()
  private count = 0

  /** Whether a client that asks from `since` has the membership. */
  has(device: string, roomNid: number, { event_id, state_key }: Event, since: StreamPosition): boolean {
    const sent = this.devices.get(device)?.get(keyOf(roomNid, state_key ?? ""))
    return sent !== undefined && sent.eventId === event_id && comparePositions(sent.at, since) <= 0
  }

  /** Notes memberships of a room that are in an answer. */
  note(device: string, roomNid: number, memberships: ReadonlyArray<Event>, at: StreamPosition): void {
    if (memberships.length === 0) return
    const sent = this.devices.get(device) ?? new Map<string, Sent>()
    this.devices.delete(device)
    this.devices.set(device, sent)
    const before = sent.size
    for (const { event_id, state_key } of memberships) {
      const key = keyOf(roomNid, state_key ?? "")
      setNewest(sent, key, { eventId: event_id, at }, maxOfDevice)
    }
    this.count += sent.size - before
    while (this.count > maxOfAll) this.forget(this.devices.keys().next().value!)
  }

  /** Forgets a device, which begins anew. */
  forget(device: string): void {
    this.count -= this.devices.get(device)?.size ?? 0
    this.devices.delete(device)
  }

  /** Forgets a room that is new to the device. */
  forgetRoom(device: string, roomNid: number): void {
    const sent = this.devices.get(device)
    if (sent === undefined) return
    const before = sent.size
    const prefix = keyOf(roomNid, "")
    for (const key of sent.keys()) if (key.startsWith(prefix)) sent.delete(key)
    this.count += sent.size - before
  }
}
