/**
 * Events of a room that its next state resolution is likely to need, the ones that were read last: as many as a long conflict
 * has, within a bound in bytes.
 */
import type { Event } from "@greenroom/protocol/Event"
import type { EventId } from "@greenroom/protocol/Identifiers"

const maxEvents = 4_000
/** In bytes of JSON. An event takes about twice as much memory. */
const maxCharacters = 4 * 1024 * 1024
/** The length of an event beside its content, about. */
const envelope = 700

interface Kept {
  readonly event: Event
  readonly characters: number
}

export class KeptEvents {
  /** The one that was read last stands last. */
  private readonly kept = new Map<EventId, Kept>()
  private characters = 0

  get(id: EventId): Event | undefined {
    return this.kept.get(id)?.event
  }

  add(event: Event): void {
    const characters = this.kept.get(event.event_id)?.characters ?? JSON.stringify(event.content).length + envelope
    this.delete(event.event_id)
    this.kept.set(event.event_id, { event, characters })
    this.characters += characters
    while (this.kept.size > maxEvents || this.characters > maxCharacters) this.delete(this.kept.keys().next().value!)
  }

  delete(id: EventId): void {
    this.characters -= this.kept.get(id)?.characters ?? 0
    this.kept.delete(id)
  }
}
