/** Programs that end with the test, and a Matrix user. */
import { type ChildProcess, spawn } from "node:child_process"
import { setTimeout as delay } from "node:timers/promises"
import { Effect } from "effect"

export const killed = (child: ChildProcess) =>
  Effect.promise(
    () =>
      new Promise<void>((resolve) => {
        if (child.exitCode !== null || child.signalCode !== null) return resolve()
        child.once("close", () => resolve())
        child.kill("SIGTERM")
      })
  )

/** A program that ends with the scope. */
export const program = (command: string, args: ReadonlyArray<string>, cwd: string) =>
  Effect.acquireRelease(
    Effect.sync(() => spawn(command, args, { cwd, stdio: "ignore" })),
    killed
  )

export interface SyncedEvent {
  readonly room: string
  readonly type: string
  readonly sender: string
  readonly body: string
}

/** A Matrix user who accepts every invitation. */
export class Person {
  private since: string | undefined
  private sent = 0
  private readonly received: Array<SyncedEvent> = []

  readonly url: string
  readonly token: string

  private constructor(url: string, token: string) {
    this.url = url
    this.token = token
  }

  static async register(url: string, username: string): Promise<Person> {
    const response = await fetch(`${url}/_matrix/client/v3/register`, {
      method: "POST",
      body: JSON.stringify({ username, password: "secret", auth: { type: "m.login.dummy" } })
    })
    const { access_token } = (await response.json()) as { readonly access_token: string }
    return new Person(url, access_token)
  }

  /** Repeats the request until the server, which may be restarting, answers. */
  async call(method: string, target: string, json?: object): Promise<Record<string, never>> {
    for (;;) {
      try {
        const response = await fetch(`${this.url}/_matrix/client/v3${target}`, {
          method,
          headers: { authorization: `Bearer ${this.token}`, "content-type": "application/json" },
          ...(json === undefined ? {} : { body: JSON.stringify(json) })
        })
        if (response.ok) return (await response.json()) as Record<string, never>
        if (response.status < 500) throw new Error(`${target}: ${await response.text()}`)
      } catch (error) {
        if (error instanceof Error && error.message.startsWith("/")) throw error
      }
      await delay(100)
    }
  }

  async sync(): Promise<void> {
    const after = this.since === undefined ? "" : `&since=${this.since}`
    const answer = await this.call("GET", `/sync?timeout=5000${after}`)
    this.since = answer.next_batch
    const { invite = {}, join = {} } = (answer.rooms ?? {}) as Record<string, Record<string, never>>
    for (const room of Object.keys(invite)) await this.call("POST", `/join/${encodeURIComponent(room)}`, {})
    for (const [room, { timeline }] of Object.entries(join) as ReadonlyArray<[string, { timeline: { events: [] } }]>) {
      for (const event of timeline.events as ReadonlyArray<Record<string, never>>) {
        const body = (event.content as { readonly body?: unknown } | undefined)?.body
        this.received.push({
          room,
          type: event.type!,
          sender: event.sender!,
          body: typeof body === "string" ? body : ""
        })
      }
    }
  }

  private until(passes: (event: SyncedEvent) => boolean) {
    return Effect.promise(async () => {
      for (;;) {
        const found = this.received.filter(passes)
        if (found.length > 0) return found
        await this.sync()
      }
    })
  }

  /** Waits for messages that contain the text. */
  receives(text: string) {
    return this.until(({ body }) => body.includes(text))
  }

  /** Waits for the user to join. */
  joinOf(userId: string) {
    return this.until(({ sender, type }) => type === "m.room.member" && sender === userId)
  }

  send(room: string, body: string) {
    const target = `/rooms/${encodeURIComponent(room)}/send/m.room.message/${++this.sent}`
    return Effect.promise(() => this.call("PUT", target, { msgtype: "m.text", body }))
  }
}
