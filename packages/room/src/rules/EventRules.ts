/**
 * The authorisation rules of room versions 1 to 12. One rule is one value; an event is refused by the first of its rules
 * that does not hold. The same rules decide for the events of our users, for those of other servers, and inside state
 * resolution.
 *
 * | rule of version 11 | |
 * |---|---|
 * | 1: m.room.create | `createRules` |
 * | 2: the auth events | `authEventsRefusal` in `AuthEvents` |
 * | 3: `m.federate` | `roomIsFederated` |
 * | 4: m.room.member | `MembershipRules`; the signature of 4.2: `signers` in `format/EventFormat` |
 * | 5: the sender is joined | `senderIsJoined` |
 * | 6: m.room.third_party_invite | `inviterHasLevel` |
 * | 7: the required power level | `senderHasLevel` |
 * | 8: state keys that begin with @ | `userKeyIsSender` |
 * | 9: m.room.power_levels | `powerLevelRules`, compared in `PowerLevelRules` |
 *
 * Versions 1 to 5 have m.room.aliases as rule 4 (`aliasesBelongToServer`), so that the following numbers are greater by one.
 * Rule 11 of versions 1 and 2 is `redactionIsAllowed`. Version 12 has a new rule 2 (`createFor` in `AuthEvents`), with the same
 * effect on the numbers.
 *
 * Source: "Authorisation rules" of the room versions.
 */
import type { Event } from "@greenroom/protocol/Event"
import { isHistoricalUserId, serverNameOf, serverPartOf } from "@greenroom/protocol/Identifiers"
import { isJsonObject } from "@greenroom/protocol/Json"
import { isKeyText, maxKeyLength } from "../PduSize.ts"
import { type AuthorisationRules, lookupIn, type Refusal } from "../RoomVersion.ts"
import { authEventKeys, authEventsRefusal, decidingKeys } from "./AuthEvents.ts"
import { membershipRules, senderIsJoined } from "./MembershipRules.ts"
import { creatorsOf, levelsIn } from "./PowerLevelReading.ts"
import { allowsChange, hasLevels, hasUserLevels, isStrict } from "./PowerLevelRules.ts"
import { contentRule, firstBroken, type Rule, rule } from "./Rule.ts"
import { type RuleOptions, type Subject, subjectOf } from "./Subject.ts"

// m.room.create

const createIsFirst = rule<Subject>(
  "m.room.create is the first event of a room and comes once",
  ({ create, event }) =>
    event.prev_events.length === 0 &&
    event.auth_events.length === 0 &&
    (create === undefined || create.event_id === event.event_id)
)

const createHasNoKey = rule<Subject>('m.room.create has the state key ""', ({ event }) => event.state_key === "")

const createBelongsToRoom = rule<Subject>(
  "m.room.create comes from the server that the room ID names",
  ({ event, options }) => options.roomIds === "createHash" || serverPartOf(event.room_id) === serverNameOf(event.sender)
)

const createNamesVersion = rule<Subject>(
  "m.room.create names the room version by which it is read",
  ({ event: { content }, options }) => (content.room_version === undefined ? "1" : content.room_version) === options.id
)

const createNamesCreator = rule<Subject>(
  "m.room.create names a creator",
  ({ event, options }) => options.creators !== "content" || event.content.creator !== undefined
)

const createNamesUsers = rule<Subject>("additional_creators is a list of user IDs", ({ event, options }) => {
  const { additional_creators: creators } = event.content
  if (options.creators !== "privileged" || creators === undefined) return true
  return Array.isArray(creators) && creators.every(isHistoricalUserId)
})

const createRules = [
  createIsFirst,
  createHasNoKey,
  createBelongsToRoom,
  createNamesVersion,
  createNamesCreator,
  createNamesUsers
]

// Every other event

/** Before version 11 the format accepts longer ones, which Synapse stores as rejected, so that later events can follow them. */
const keysAreShort = rule<Subject>(
  `The type and the state key of an event have at most ${maxKeyLength} bytes`,
  ({ event }) => isKeyText(event.type, "bytes") && isKeyText(event.state_key ?? "", "bytes")
)

const roomExists = rule<Subject>(
  "A room begins with its m.room.create event",
  ({ create, event }) => create !== undefined && create.room_id === event.room_id
)

const roomIsFederated = rule<Subject>(
  "In a room with m.federate false only users of the creator's server take part",
  ({ create, event }) =>
    create?.content["m.federate"] !== false || serverNameOf(create.sender) === serverNameOf(event.sender)
)

const senderHasLevel = rule<Subject>(
  "An event requires the power level of its type",
  ({ event, levels, senderLevel }) => senderLevel >= levels.event(event.type, event.state_key !== undefined)
)

const userKeyIsSender = rule<Subject>(
  "State whose key begins with @ is set by the user that it names",
  ({ event }) => !(event.state_key?.startsWith("@") ?? false) || event.state_key === event.sender
)

const ordinaryRules = [senderIsJoined, senderHasLevel, userKeyIsSender]

// m.room.aliases

const aliasesBelongToServer = rule<Subject>(
  "The state key of m.room.aliases is the server of its sender",
  ({ event }) => event.state_key === serverNameOf(event.sender)
)

// m.room.third_party_invite

const inviterHasLevel = rule<Subject>(
  "Inviting requires the power level `invite`",
  ({ levels, senderLevel }) => senderLevel >= levels.of("invite")
)

// m.room.power_levels

const usersHaveLevels = contentRule<Subject>(
  "Power levels name users by their IDs, each with a level",
  ({ event, options }) => hasUserLevels(options, event.content)
)

const creatorsHaveNoLevels = contentRule<Subject>(
  "Power levels do not name the creators of the room",
  ({ create, event, options }) => {
    const { users } = event.content
    if (options.creators !== "privileged" || !isJsonObject(users)) return true
    return !creatorsOf(options.creators, create).some(
      (entry) => typeof entry === "string" && Object.hasOwn(users, entry)
    )
  }
)

/** Levels under another state key than "" have no effect; other servers do not compare them with those in force. */
const levelsBefore = ({ event, state }: Subject): Event | undefined =>
  event.state_key === undefined || event.state_key === "" ? state("m.room.power_levels", "") : undefined

const levelsHaveForm = contentRule<Subject>("Power levels are integers", (subject) => {
  const { event, options } = subject
  return hasLevels(options, event.content) || (levelsBefore(subject) === undefined && !isStrict(options))
})

const levelsStayBelow = rule<Subject>(
  "Users cannot give or take a power level above their own, or change that of an equal",
  (subject) => {
    const { event, options, senderLevel } = subject
    const before = levelsBefore(subject)
    return before === undefined || allowsChange(options, before.content, event.content, event.sender, senderLevel)
  }
)

const powerLevelRules = [...ordinaryRules, usersHaveLevels, creatorsHaveNoLevels, levelsHaveForm, levelsStayBelow]

// m.room.redaction

/** The server that made an event, in versions whose event IDs name it. */
const isOfSameServer = (redaction: Event, redacts: Event["redacts"]): boolean =>
  redacts !== undefined && serverPartOf(redacts) === serverPartOf(redaction.event_id)

const redactionIsAllowed = rule<Subject>(
  "Users redact events of their own server; others take the power level `redact`",
  ({ event, levels, senderLevel }) => senderLevel >= levels.of("redact") || isOfSameServer(event, event.redacts)
)

const rulesFor = (subject: Subject): ReadonlyArray<Rule<Subject>> => {
  const { event, options } = subject
  switch (event.type) {
    case "m.room.member":
      return membershipRules(subject)
    case "m.room.aliases":
      return options.checksAliases ? [aliasesBelongToServer] : ordinaryRules
    case "m.room.third_party_invite":
      return [senderIsJoined, inviterHasLevel]
    case "m.room.power_levels":
      return powerLevelRules
    case "m.room.redaction":
      return options.checksRedactions ? [...ordinaryRules, redactionIsAllowed] : ordinaryRules
    default:
      return ordinaryRules
  }
}

const authorise =
  (options: RuleOptions): AuthorisationRules["authorise"] =>
  (event, state) => {
    const subject = subjectOf(options, event, state)
    if (event.type === "m.room.create") return firstBroken(createRules, subject)
    return firstBroken([keysAreShort, roomExists, roomIsFederated], subject) ?? firstBroken(rulesFor(subject), subject)
  }

const authoriseByAuthEvents =
  (options: RuleOptions): AuthorisationRules["authoriseByAuthEvents"] =>
  (event, authEvents, context) => {
    const refusal = authEventsRefusal(options, event, authEvents, context)
    if (refusal !== undefined) return refusal
    const named = lookupIn(authEvents)
    const isNamed = options.roomIds === "chosen"
    return authorise(options)(event, (type, stateKey) =>
      type === "m.room.create" && !isNamed ? context.create : named(type, stateKey)
    )
  }

const refuse = (text: string): Refusal => ({ rule: text })

/**
 * Users redact events of their own server, others with the level `redact`. The event that created the room stays, since
 * what redaction would leave of it in versions 1 to 10 says less about who may take part.
 */
const authoriseRedaction =
  (options: RuleOptions): AuthorisationRules["authoriseRedaction"] =>
  (redaction, target, state) => {
    if (target.room_id !== redaction.room_id) return refuse("A redaction strips an event of its own room")
    if (target.type === "m.room.create") return refuse("m.room.create cannot be redacted")
    const levels = levelsIn(options, state)
    if (levels.user(redaction.sender) >= levels.of("redact")) return undefined
    const isOwn = options.checksRedactions
      ? isOfSameServer(redaction, target.event_id)
      : serverNameOf(target.sender) === serverNameOf(redaction.sender)
    return isOwn ? undefined : refuse("Redacting events of other servers requires the power level `redact`")
  }

/** The authorisation rules of a room version. */
export const authorisationRules = (options: RuleOptions): AuthorisationRules => ({
  authEventKeys: authEventKeys(options),
  decidingKeys: decidingKeys(options),
  authorise: authorise(options),
  authoriseByAuthEvents: authoriseByAuthEvents(options),
  authoriseRedaction: authoriseRedaction(options),
  levels: (state) => levelsIn(options, state)
})
