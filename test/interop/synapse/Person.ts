/**
 * A user of a server as a client of today's API: short methods for what a scene needs.
 */

import { randomUUID } from "node:crypto"
import type { Body } from "../../support/Curl.ts"
import type { Registered } from "../../support/Synapse.ts"

export type Json = { readonly [key: string]: unknown }

const path = (...parts: ReadonlyArray<string>) => parts.map(encodeURIComponent).join("/")

export class Person {
  readonly id: string
  private readonly url: string
  private readonly token: string

  constructor(url: string, registered: Registered) {
    this.url = url
    this.id = registered.user_id
    this.token = registered.access_token
  }

  readonly call = async (method: string, endpoint: string, body?: unknown): Promise<Body> => {
    const response = await fetch(`${this.url}/_matrix/client/v3/${endpoint}`, {
      method,
      headers: { Authorization: `Bearer ${this.token}` },
      ...(body === undefined ? {} : { body: JSON.stringify(body) })
    })
    const text = await response.text()
    if (!response.ok) throw new Error(`${this.id} ${method} ${endpoint}: ${response.status} ${text}`)
    return JSON.parse(text)
  }

  readonly createRoom = async (options: Json): Promise<string> =>
    (await this.call("POST", "createRoom", options)).room_id

  /** Returns the event ID. */
  readonly say = async (room: string, text: string): Promise<string> =>
    this.send(room, "m.room.message", { msgtype: "m.text", body: text })

  readonly send = async (room: string, type: string, content: Json): Promise<string> =>
    (await this.call("PUT", path("rooms", room, "send", type, randomUUID()), content)).event_id

  readonly set = async (room: string, type: string, content: Json, stateKey = ""): Promise<string> =>
    (await this.call("PUT", path("rooms", room, "state", type, stateKey), content)).event_id

  readonly redact = async (room: string, event: string, reason = "wrong"): Promise<string> =>
    (await this.call("PUT", path("rooms", room, "redact", event, randomUUID()), { reason })).event_id

  readonly state = (room: string): Promise<ReadonlyArray<Body>> => this.call("GET", path("rooms", room, "state"))

  readonly content = (room: string, type: string, stateKey = ""): Promise<Body> =>
    this.call("GET", path("rooms", room, "state", type, stateKey))

  readonly join = (room: string, via?: string) =>
    this.call(
      "POST",
      `join/${encodeURIComponent(room)}${via === undefined ? "" : `?via=${encodeURIComponent(via)}`}`,
      {}
    )

  readonly knock = (room: string, via?: string) =>
    this.call(
      "POST",
      `knock/${encodeURIComponent(room)}${via === undefined ? "" : `?via=${encodeURIComponent(via)}`}`,
      {
        reason: "please"
      }
    )

  readonly invite = (room: string, whom: Person) =>
    this.call("POST", path("rooms", room, "invite"), { user_id: whom.id })
  readonly kick = (room: string, whom: Person) =>
    this.call("POST", path("rooms", room, "kick"), { user_id: whom.id, reason: "kicked" })
  readonly ban = (room: string, whom: Person) =>
    this.call("POST", path("rooms", room, "ban"), { user_id: whom.id, reason: "banned" })
  readonly unban = (room: string, whom: Person) => this.call("POST", path("rooms", room, "unban"), { user_id: whom.id })
  readonly leave = (room: string) => this.call("POST", path("rooms", room, "leave"), {})

  readonly has = (room: string, event: string): Promise<boolean> =>
    this.call("GET", path("rooms", room, "event", event)).then(
      () => true,
      () => false
    )
}
