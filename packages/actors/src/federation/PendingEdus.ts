/**
 * The EDUs that wait for one destination: the last value of each, in bounded memory. Plain and synchronous, owned by the
 * `Peer` actor.
 *
 * Of presence and typing only the present value is worth sending, so a newer value replaces an older one; values that waited
 * too long are dropped.
 *
 * Source: "PDUs and EDUs" of the draft, "EDUs" of the server-server specification.
 */
import { maxPresenceUsers } from "@greenroom/protocol/federation/Edu"
import { isJsonObject, itemsOf, type JsonObject } from "@greenroom/protocol/Json"
import { setNewest } from "@greenroom/store/BoundedMap"

/** An EDU without its envelope. */
export interface EduContent {
  readonly edu_type: string
  readonly content: JsonObject
}

/** How long an EDU is worth sending, in milliseconds. */
export const eduFreshness = 60_000

/** How many EDUs wait at most, beside presence; the oldest give way. */
const maxWaiting = 1_000

/** How many users' presence, and how many polls, wait at most. */
const maxWaitingPresence = 10_000

interface Waiting<A> {
  readonly value: A
  readonly since: number
}

/** The last values, oldest first, at most so many. */
class LastOf<A> {
  private readonly values = new Map<string, Waiting<A>>()
  private readonly most: number

  constructor(most: number) {
    this.most = most
  }

  get isEmpty(): boolean {
    return this.values.size === 0
  }

  set(key: string, value: A, since: number): void {
    setNewest(this.values, key, { value, since }, this.most)
  }

  /** Takes the oldest ones out, at most so many, and drops those from before `freshFrom`. */
  take(count: number, freshFrom: number): ReadonlyArray<Waiting<A>> {
    const taken: Array<Waiting<A>> = []
    for (const [key, waiting] of this.values) {
      if (taken.length === count) break
      this.values.delete(key)
      if (waiting.since >= freshFrom) taken.push(waiting)
    }
    return taken
  }

  clear(): void {
    this.values.clear()
  }
}

/** Adds the time in the queue to the age of the last activity. The monotonic clock has fractions, canonical JSON has none. */
const agedPush = ({ since, value }: Waiting<JsonObject>, now: number): JsonObject =>
  typeof value.last_active_ago === "number"
    ? { ...value, last_active_ago: Math.round(value.last_active_ago + Math.max(0, now - since)) }
    : value

/** EDUs that may be lost, waiting in memory for the next transaction to a server. */
export class PendingEdus {
  private readonly pushes = new LastOf<JsonObject>(maxWaitingPresence)
  /** Whether the user is polled or unpolled. */
  private readonly polls = new LastOf<{ readonly userId: string; readonly poll: boolean }>(maxWaitingPresence)
  private readonly others = new LastOf<EduContent>(maxWaiting)
  private count = 0

  get isEmpty(): boolean {
    return this.pushes.isEmpty && this.polls.isEmpty && this.others.isEmpty
  }

  /** `now` is in milliseconds of the monotonic clock, as below. */
  add(edu: EduContent, now: number): void {
    const { content, edu_type } = edu
    if (edu_type === "m.presence") this.addPresence(content, now)
    else if (edu_type === "m.typing") this.others.set(`${content.room_id} ${content.user_id}`, edu, now)
    else this.others.set(String(this.count++), edu, now)
  }

  private addPresence(content: JsonObject, now: number): void {
    for (const push of itemsOf(content.push)) {
      if (isJsonObject(push)) this.pushes.set(String(push.user_id), push, now)
    }
    for (const poll of [true, false]) {
      for (const userId of itemsOf(poll ? content.poll : content.unpoll)) {
        this.polls.set(String(userId), { userId: String(userId), poll }, now)
      }
    }
  }

  /** The next EDUs to send, at most `count` (at least 1). */
  take(count: number, now: number): ReadonlyArray<EduContent> {
    const freshFrom = now - eduFreshness
    const presence = this.takePresence(freshFrom, now)
    return [...presence, ...this.others.take(count - presence.length, freshFrom).map(({ value }) => value)]
  }

  /** All presence that fits into one EDU. */
  private takePresence(freshFrom: number, now: number): ReadonlyArray<EduContent> {
    const push = this.pushes.take(maxPresenceUsers, freshFrom).map((waiting) => agedPush(waiting, now))
    const polls = this.polls.take(maxPresenceUsers, freshFrom).map(({ value }) => value)
    if (push.length + polls.length === 0) return []
    const users = (poll: boolean) => polls.filter((entry) => entry.poll === poll).map(({ userId }) => userId)
    const parts = { push, poll: users(true), unpoll: users(false) }
    const content = Object.fromEntries(Object.entries(parts).filter(([, list]) => list.length > 0))
    return [{ edu_type: "m.presence", content }]
  }

  clear(): void {
    this.pushes.clear()
    this.polls.clear()
    this.others.clear()
  }
}
