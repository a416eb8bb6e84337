/**
 * The current state of a room in the memory of its actor, with results that are computed from it once: many events ask for
 * them, and few change the state.
 */
import type { Event } from "@greenroom/protocol/Event"
import type { EventId } from "@greenroom/protocol/Identifiers"
import { type StateLookup, stateKeyOf } from "@greenroom/room/RoomVersion"
import type { RoomSummary } from "@greenroom/store/EventLog"
import type { StateValue } from "./StateBranches.ts"

/** A state event and its number. */
export interface CurrentEntry {
  readonly nid: number
  readonly event: Event
}

/** The parts of a room's summary that its state decides. */
interface Description extends Pick<RoomSummary, "name" | "topic" | "visibility"> {
  /** Whether the state lets everybody join or read. */
  readonly isOpen: boolean
}

const bytesOf = (event: Event | undefined): number => (event === undefined ? 0 : JSON.stringify(event).length)

/** A room is listed as its m.room.config says; one without is not decided by its state. */
const visibilityIn = (state: StateLookup): Pick<RoomSummary, "visibility"> => {
  const config = state("m.room.config", "")
  return config === undefined ? {} : { visibility: config.content.visibility === "public" ? "public" : "private" }
}

const isOpenToAll = (state: StateLookup): boolean =>
  state("m.room.join_rules", "")?.content.join_rule === "public" ||
  state("m.room.history_visibility", "")?.content.history_visibility === "world_readable"

export class CurrentState {
  /** Keys: `stateKeyOf`. */
  private readonly byKey = new Map<string, CurrentEntry>()
  /** The results of `lookup`. */
  private readonly found = new Map<string, Map<string, Event>>()
  /** The results of `description`, `citations` and `bytes`, once they were computed. */
  private described: Description | undefined
  private cited: Map<EventId, number> | undefined
  private counted: number | undefined

  get size(): number {
    return this.byKey.size
  }

  keys(): MapIterator<string> {
    return this.byKey.keys()
  }

  entries(): MapIterator<[key: string, entry: CurrentEntry]> {
    return this.byKey.entries()
  }

  values(): MapIterator<CurrentEntry> {
    return this.byKey.values()
  }

  get(key: string): CurrentEntry | undefined {
    return this.byKey.get(key)
  }

  /** The ID and number of the event that a key is set to. */
  valueOf(key: string): StateValue {
    const entry = this.byKey.get(key)
    return entry === undefined ? undefined : { id: entry.event.event_id, nid: entry.nid }
  }

  /** The numbers of all events of the state, by key. */
  nids(): Map<string, number> {
    return new Map(Array.from(this.byKey, ([key, { nid }]) => [key, nid]))
  }

  /** Looked up many times for every event, and most events do not change it: the result is cached without its key. */
  readonly lookup: StateLookup = (type, stateKey) => {
    const found = this.found.get(type)?.get(stateKey)
    if (found !== undefined) return found
    const event = this.byKey.get(stateKeyOf(type, stateKey))?.event
    if (event !== undefined) {
      const ofType = this.found.get(type)
      if (ofType === undefined) this.found.set(type, new Map([[stateKey, event]]))
      else ofType.set(stateKey, event)
    }
    return event
  }

  /** Sets or removes a key. */
  set(key: string, entry: CurrentEntry | undefined): void {
    const replaced = this.byKey.get(key)?.event
    if (this.counted !== undefined) this.counted += bytesOf(entry?.event) - bytesOf(replaced)
    if (this.cited !== undefined) {
      this.cite(replaced, -1)
      this.cite(entry?.event, 1)
    }
    if (entry === undefined) this.byKey.delete(key)
    else this.byKey.set(key, entry)
    if (this.found.size > 0) this.found.clear()
    this.described = undefined
  }

  /** How many events of the state name an event among their auth events. */
  citations(id: EventId): number {
    if (this.cited === undefined) {
      this.cited = new Map()
      for (const { event } of this.byKey.values()) this.cite(event, 1)
    }
    return this.cited.get(id) ?? 0
  }

  private cite(event: Event | undefined, by: 1 | -1): void {
    for (const id of event?.auth_events ?? []) {
      const times = (this.cited?.get(id) ?? 0) + by
      if (times > 0) this.cited?.set(id, times)
      else this.cited?.delete(id)
    }
  }

  /** How many bytes of JSON the state has, about. */
  get bytes(): number {
    if (this.counted === undefined) {
      this.counted = 0
      for (const { event } of this.byKey.values()) this.counted += bytesOf(event)
    }
    return this.counted
  }

  get description(): Description {
    this.described ??= this.describe()
    return this.described
  }

  private describe(): Description {
    const text = (type: string, field: string): string | null => {
      const value = this.lookup(type, "")?.content[field]
      // A column of text holds every character but NUL.
      return typeof value === "string" ? value.replaceAll("\0", "\u{fffd}") : null
    }
    return {
      name: text("m.room.name", "name"),
      topic: text("m.room.topic", "topic"),
      ...visibilityIn(this.lookup),
      isOpen: isOpenToAll(this.lookup)
    }
  }
}
