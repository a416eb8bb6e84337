/**
 * Makes events by hand in the name of users of `b`, valid or not, and sends them to `a`.
 *
 * All of them follow the same event, so that the state before each is the same.
 */
import type { Body } from "../../support/Curl.ts"
import { stateKeyOf } from "./EventTables.ts"
import { verdictWithin } from "./Pair.ts"
import type { Forgery, Stage } from "./Scene.ts"
import { eventId, type Pdu, referenceHash, type Signer, signEvent } from "./SignedJson.ts"

export interface Draft {
  readonly type: string
  readonly sender: string
  readonly content: { readonly [key: string]: unknown }
  readonly state_key?: unknown
  readonly redacts?: string
  /** Event IDs, instead of those that the type calls for. */
  readonly authEvents?: ReadonlyArray<string>
  /** Event IDs, instead of the one that all follow. */
  readonly prevEvents?: ReadonlyArray<string>
  /** Keys beside and instead of those that an event has. Undefined removes one. */
  readonly others?: { readonly [key: string]: unknown }
  /** Instead of the right one. */
  readonly contentHash?: string
  /** Changes what was signed. */
  readonly tampered?: (pdu: Pdu) => Pdu
  readonly alsoSignedBy?: Signer
}

/** Name of what is tried, and the event. */
export type Attempt = readonly [string, Draft]

type KnownState = ReadonlyMap<string, string>

export class Forger {
  private readonly stage: Stage
  readonly room: string
  /** Event ID of each type and state key, after the event that all follow. */
  readonly state: KnownState
  private readonly last: string
  private readonly known = new Map<string, Pdu>()
  private readonly made: Array<Forgery> = []
  private count = 0
  /** No two events have the same time, and so no two the same ID. */
  private clock = Date.now()

  private constructor(stage: Stage, room: string, state: KnownState, last: string) {
    this.stage = stage
    this.room = room
    this.state = state
    this.last = last
  }

  /** Alice says the last word before the forgeries. */
  static readonly after = async (stage: Stage, room: string): Promise<Forger> => {
    const { alice } = stage.people
    const last = await alice.say(room, "forgeries follow this")
    const state = new Map<string, string>(
      (await alice.state(room)).map((event: Body) => [stateKeyOf(event.type, event.state_key), event.event_id])
    )
    return new Forger(stage, room, state, last)
  }

  get forgeries(): ReadonlyArray<Forgery> {
    return this.made
  }

  /** The event ID of a forgery that was sent. */
  readonly idOf = (name: string): string => {
    const found = this.made.find((forgery) => forgery.name === name)
    if (found === undefined) throw new Error(`No forgery is called ${name}`)
    return found.event_id
  }

  /** Sends these in one transaction, with a right event at the end, and waits until `a` is through with them. */
  readonly send = async (attempts: ReadonlyArray<Attempt>): Promise<void> => {
    const { pair, people } = this.stage
    const name = `end of transaction ${++this.count}`
    const content = { msgtype: "m.text", body: "end" }
    await this.attempt([...attempts, [name, { type: "m.room.message", sender: people.bob.id, content }]])
    if ((await verdictWithin(pair.a.tables, this.idOf(name))) === undefined) {
      throw new Error(`${this.idOf(name)}, the end of a transaction, was not taken`)
    }
  }

  /** Sends these in one transaction. */
  readonly attempt = async (attempts: ReadonlyArray<Attempt>): Promise<void> => {
    const { pair, version } = this.stage
    const events: Array<Forgery> = []
    for (const [name, draft] of attempts) {
      const pdu = this.event(draft)
      events.push({ name, event_id: eventId(pdu, version), pdu })
    }
    const { body, pdus, status } = await pair.asB.send(events.map(({ pdu }) => pdu))
    if (status !== 200) throw new Error(`The transaction was refused: ${JSON.stringify(body)}`)
    for (const forgery of events) {
      const error = pdus[forgery.event_id]?.error
      this.known.set(forgery.event_id, forgery.pdu)
      this.made.push(error === undefined ? forgery : { ...forgery, error })
    }
  }

  private readonly pduOf = (id: string): Pdu => {
    const pdu = this.known.get(id) ?? this.stage.pair.a.tables.pdu(id)
    if (pdu === undefined) throw new Error(`${id} is not known`)
    this.known.set(id, pdu)
    return pdu
  }

  /** As `prev_events` and `auth_events` name an event. */
  private readonly reference = (id: string) => {
    const { version } = this.stage
    return version > 2 ? id : [id, { sha256: referenceHash(this.pduOf(id), version) }]
  }

  private readonly authEventsOf = ({ content, sender, state_key, type }: Draft): ReadonlyArray<string> => {
    const keys = [
      ["m.room.power_levels", ""],
      ["m.room.member", sender]
    ]
    if (this.stage.version < 12) keys.push(["m.room.create", ""])
    if (type === "m.room.member") {
      keys.push(["m.room.member", `${state_key}`])
      if (["join", "invite", "knock"].includes(`${content.membership}`)) keys.push(["m.room.join_rules", ""])
      const { join_authorised_via_users_server: voucher, third_party_invite: invite } = content
      if (voucher !== undefined) keys.push(["m.room.member", `${voucher}`])
      if (invite !== undefined) keys.push(["m.room.third_party_invite", (invite as Body).signed?.token ?? ""])
    }
    const ids = keys.map(([type = "", stateKey = ""]) => this.state.get(stateKeyOf(type, stateKey)))
    return [...new Set(ids.filter((id) => id !== undefined))]
  }

  private readonly event = (draft: Draft): Pdu => {
    const { pair, version } = this.stage
    const { alsoSignedBy, contentHash, others, redacts, sender, state_key, tampered, type } = draft
    const prevEvents = draft.prevEvents ?? [this.last]
    const depths = prevEvents.map((id) => Number(this.pduOf(id).depth))
    const random = Math.random().toString(36).slice(2)
    const unsigned: Pdu = JSON.parse(
      JSON.stringify({
        ...(version <= 2 ? { event_id: `$${random}:${pair.b.name}` } : {}),
        room_id: this.room,
        type,
        sender,
        state_key,
        content: draft.content,
        redacts,
        origin: version <= 10 ? pair.b.name : undefined,
        origin_server_ts: this.clock++,
        depth: Math.max(...depths) + 1,
        prev_events: prevEvents.map(this.reference),
        auth_events: (draft.authEvents ?? this.authEventsOf(draft)).map(this.reference),
        ...others
      })
    )
    const signed = signEvent(unsigned, version, pair.b.signer, contentHash)
    const both = alsoSignedBy === undefined ? signed : signEvent(signed, version, alsoSignedBy, contentHash)
    return tampered === undefined ? both : tampered(both)
  }
}
