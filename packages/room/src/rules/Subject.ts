/**
 * The input of the authorisation rules of room versions 1 to 12: an event, the state before it, and the differences of its
 * version.
 */
import type { Event } from "@greenroom/protocol/Event"
import type { Json } from "@greenroom/protocol/Json"
import type { Levels, StateLookup } from "../RoomVersion.ts"
import { creatorsOf, levelsIn } from "./PowerLevelReading.ts"
import type { PowerLevelOptions } from "./PowerLevelRules.ts"

/** The differences between the rules of versions. */
export interface RuleOptions extends PowerLevelOptions {
  /** The ID of the room version. */
  readonly id: string
  /** The form of room IDs: chosen by the creator's server, or the hash of m.room.create, which is then no auth event. */
  readonly roomIds: "chosen" | "createHash"
  /** True if m.room.aliases has a rule of its own. */
  readonly checksAliases: boolean
  /** True if an m.room.redaction is refused when its sender may not redact the event. Event IDs then name their servers. */
  readonly checksRedactions: boolean
  /** The join rules that allow knocks. */
  readonly knockRules: ReadonlySet<string>
  /** The join rules that admit members of other rooms. */
  readonly restrictedRules: ReadonlySet<string>
}

/** An event with everything that the rules read. */
export interface Subject {
  readonly options: RuleOptions
  readonly event: Event
  readonly state: StateLookup
  readonly create: Event | undefined
  /** The user who may join right after m.room.create, before there are join rules. */
  readonly creator: Json | undefined
  readonly levels: Levels
  readonly senderLevel: number
  /** The user's membership of the room: "leave" for unknown users. */
  readonly membershipOf: (userId: string) => string
}

/** An event and the state before it, as the rules read them. */
export const subjectOf = (options: RuleOptions, event: Event, state: StateLookup): Subject => {
  const create = state("m.room.create", "")
  const levels = levelsIn(options, state)
  return {
    options,
    event,
    state,
    create,
    creator: creatorsOf(options.creators, create)[0],
    levels,
    senderLevel: levels.user(event.sender),
    membershipOf: (userId) => {
      const membership = state("m.room.member", userId)?.content.membership
      return typeof membership === "string" ? membership : "leave"
    }
  }
}
