/**
 * Bodies of requests or answers that are arriving. Where they hold more than a limit together, the oldest is refused: a body that is
 * not sent to occupy memory has arrived by then, and those that come later have room.
 */

/** A body that is arriving. */
export interface ArrivingBody {
  /** Gives up the body, and removes it. One that cannot be given up now stays. */
  readonly refuse: () => void
}

/** Bodies that share a limit. */
export class ArrivingBodies {
  private readonly limit: number
  private held = 0
  /** How many bytes each body holds, the oldest first. */
  private readonly bodies = new Map<ArrivingBody, number>()

  /** `limit` in bytes. */
  constructor(limit: number) {
    this.limit = limit
  }

  /** Whether so many bytes more leave half of the limit to others. */
  hasRoomFor(bytes: number): boolean {
    return this.held + bytes <= this.limit / 2
  }

  /** Counts bytes of a body that have arrived. */
  add(body: ArrivingBody, bytes: number): void {
    this.bodies.set(body, (this.bodies.get(body) ?? 0) + bytes)
    this.held += bytes
    for (const oldest of this.bodies.keys()) {
      if (this.held <= this.limit) return
      oldest.refuse()
    }
  }

  /** Forgets a body that has arrived or was refused. */
  remove(body: ArrivingBody): void {
    this.held -= this.bodies.get(body) ?? 0
    this.bodies.delete(body)
  }
}
