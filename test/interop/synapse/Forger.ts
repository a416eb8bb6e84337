/** Forges events of users of `b`, valid or not, and sends them to `a`. All follow the same event, so that the state before each is the same. */
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
  /** Event IDs, instead of those that the type requires. */
  readonly authEvents?: ReadonlyArray<string>
  /** Event IDs, instead of the common predecessor. */
  readonly prevEvents?: ReadonlyArray<string>
  /** Additional and replaced keys. Undefined removes one. */
  readonly others?: { readonly [key: string]: unknown }
  /** A wrong content hash. */
  readonly contentHash?: string
  /** Changes the signed event. */
  readonly tampered?: (pdu: Pdu) => Pdu
  readonly alsoSignedBy?: Signer
}

/** The name of a forgery, and the event. */
export type Attempt = readonly [string, Draft]

type KnownState = ReadonlyMap<string, string>

export class Forger {
  private readonly stage: Stage
  readonly room: string
  /** The event IDs of the state after the common predecessor, by type and state key. */
  readonly state: KnownState
  private readonly last: string
  private readonly known = new Map<string, Pdu>()
  private readonly made: Array<Forgery> = []
  private count = 0
  /** Each event has another timestamp, and so another ID. */
  private clock = Date.now()

  private constructor(stage: Stage, room: string, state: KnownState, last: string) {
    this.stage = stage
    this.room = room
    this.state = state
    this.last = last
  }

  /** Alice sends the common predecessor of the forgeries. */
  static readonly after = async (stage: Stage, room: string): Promise<Forger> => {
    const { alice } = stage.people
    const last = await alice.sendText(room, "forgeries follow this")
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

  /** Sends events in one transaction with a valid event at the end, and waits until `a` has processed them. */
  readonly send = async (attempts: ReadonlyArray<Attempt>): Promise<void> => {
    const { pair, people } = this.stage
    const name = `end of transaction ${++this.count}`
    const content = { msgtype: "m.text", body: "end" }
    await this.attempt([...attempts, [name, { type: "m.room.message", sender: people.bob.id, content }]])
    if ((await verdictWithin(pair.a.tables, this.idOf(name))) === undefined) {
      throw new Error(`${this.idOf(name)}, the end of a transaction, was not accepted`)
    }
  }

  /** Sends events in one transaction. */
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

  /** The reference to an event in `prev_events` and `auth_events`. */
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
