/** A client that follows all rooms of a user by the draft's event stream, and records when each message arrived first. */
import { HttpConnection } from "./HttpConnection.ts"
import { jsonOf, prefix } from "./People.ts"

interface Chunk {
  readonly chunk: ReadonlyArray<{ readonly type: string; readonly content: { readonly body?: string } }>
  readonly end: string
}

export class Follower {
  readonly seen = new Map<string, number>()
  private waiting = () => {}

  async follow(url: string, token: string, from = "END"): Promise<void> {
    const connection = await HttpConnection.open(url)
    while (true) {
      const path = `${prefix}/events?from=${from}&timeout=60000&limit=1000`
      const { chunk, end } = await jsonOf<Chunk>(connection.request("GET", path, token))
      const now = performance.now()
      for (const event of chunk) {
        if (event.type === "m.room.message") this.seen.set(event.content.body!, now)
      }
      from = end
      this.waiting()
    }
  }

  /** Waits until the messages have arrived. Returns the time of the last arrival. */
  async until(bodies: ReadonlyArray<string>): Promise<number> {
    while (!bodies.every((body) => this.seen.has(body))) {
      await new Promise<void>((resolve) => {
        this.waiting = resolve
      })
    }
    return Math.max(...bodies.map((body) => this.seen.get(body)!))
  }
}
