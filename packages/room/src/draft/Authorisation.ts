/**
 * The authorisation rules of the draft's room version: whether an event is allowed in a state. One rule is one value: a
 * sentence that people read when they are refused, and what must hold. An event is refused by the first of its rules
 * that does not hold.
 *
 * The same rules decide for the events of our users, for PDUs of other servers and inside state resolution.
 * Source: "Rooms" of the draft.
 */
import type { Event } from "@greenroom/protocol/Event"
import { isEventId, isUserId, serverNameOf, serverPartOf } from "@greenroom/protocol/Identifiers"
import type { Json } from "@greenroom/protocol/Json"
import { joinerMustBeInvited, leaverMustBeThere, roomMustTakeKnocks, senderMustBeJoined } from "../OutsiderRules.ts"
import {
  type AuthorisationRules,
  type EventProposal,
  lookupIn,
  type Refusal,
  type StateLookup,
  stateKeyOf
} from "../RoomVersion.ts"
import * as Rules from "../rules/Rule.ts"
import { inviteJoinOf, namesMembership } from "./InviteJoin.ts"
import { allowsPowerLevels, hasPowerLevelForm } from "./PowerLevelChange.ts"
import { eventLevel, levelFor, levelsIn, type PowerLevels, powerLevels, userLevel } from "./PowerLevels.ts"

/** The membership of a user in a room; `leave` where the room has none. */
type Membership = "invite" | "join" | "leave" | "ban" | "knock"

const memberships: ReadonlySet<unknown> = new Set<Membership>(["invite", "join", "leave", "ban", "knock"])

/** The join rules: anybody; users whose knock was accepted; invited users; invited users and those listed in `may_join`. */
type JoinRule = "public" | "knock" | "invite" | "private"

const membershipIn = (content: Event["content"] | undefined): Membership => {
  const membership = content?.membership
  return memberships.has(membership) ? (membership as Membership) : "leave"
}

/** The user's membership in this state. */
export const membershipOf = (state: StateLookup, userId: string): Membership =>
  membershipIn(state("m.room.member", userId)?.content)

/** The join rule in this state. Without one, or with an unknown one, the room takes invited users only. */
const joinRuleOf = (state: StateLookup): JoinRule => {
  const rule = state("m.room.join_rules", "")?.content.join_rule
  return rule === "public" || rule === "knock" || rule === "private" ? rule : "invite"
}

/** True if the state's list of those who may join a private room names the user. */
const isOnMayJoinList = (state: StateLookup, userId: string): boolean => {
  const list: Json | undefined = state("m.room.join_rules", "")?.content.may_join
  return Array.isArray(list) && list.includes(userId)
}

/** An event, the state before it, and what the rules ask of both. */
interface Subject {
  readonly event: Event
  readonly state: StateLookup
  readonly create: Event | undefined
  readonly levels: PowerLevels
  readonly senderLevel: number
}

type Rule = Rules.Rule<Subject>

const rule = Rules.rule<Subject>
const firstBroken = Rules.firstBroken<Subject>

const senderIs = ({ state, event }: Subject): Membership => membershipOf(state, event.sender)
const targetIs = ({ state, event }: Subject): Membership => membershipOf(state, event.state_key ?? "")
const targetLevel = ({ levels, event }: Subject): number => userLevel(levels, event.state_key ?? "")
const isAboutSender = ({ event }: Subject): boolean => event.state_key === event.sender

// Every event

const senderBelongsToOrigin = rule(
  "An event comes from the server of its sender",
  ({ event }) => serverNameOf(event.sender) === event.origin && serverPartOf(event.event_id) === event.origin
)

/** A join that its sender asked another server to make. */
const isAskedFor = ({ event }: Subject): boolean =>
  event.content.membership === "join" && inviteJoinOf(event) !== undefined

const hostIsOrigin = rule(
  "A membership that another server makes bears an event ID of that server",
  ({ event }) => serverPartOf(event.event_id) === event.origin
)

const inviteJoinIsNew = rule(
  "An m.room.invite_join names, in prev_pdus or auth_pdus, the membership that its sender has until then",
  ({ state, event }) => {
    const present = state("m.room.member", event.sender)
    return present === undefined || namesMembership(inviteJoinOf(event)!, present.event_id)
  }
)

const roomExists = rule(
  "A room begins with its m.room.create event",
  ({ create, event }) => create !== undefined && create.room_id === event.room_id && event.prev_events.length > 0
)

const roomIsFederated = rule(
  "In a room with m.federate false only users of the creator's server take part",
  ({ create, event }) =>
    create?.content["m.federate"] !== false || serverNameOf(create.sender) === serverNameOf(event.sender)
)

const senderIsJoined = rule(senderMustBeJoined, (subject) => senderIs(subject) === "join")

// m.room.create

const createIsFirst = rule(
  "m.room.create is the first event of a room and comes once",
  ({ event, create }) => event.prev_events.length === 0 && event.auth_events.length === 0 && create === undefined
)

const createHasNoKey = rule('m.room.create has the state key ""', ({ event }) => event.state_key === "")

const createBelongsToRoom = rule(
  "m.room.create comes from the server that the room ID names",
  ({ event }) => serverPartOf(event.room_id) === serverNameOf(event.sender)
)

const createNamesCreator = rule(
  "The creator that m.room.create names is its sender",
  ({ event }) => event.content.creator === event.sender
)

const createRules = [senderBelongsToOrigin, createIsFirst, createHasNoKey, createBelongsToRoom, createNamesCreator]

// m.room.member

const memberNamesUser = rule("The state key of m.room.member is a user ID", ({ event }) => isUserId(event.state_key))

const memberHasMembership = rule("A membership is one of invite, join, leave, ban and knock", ({ event }) =>
  memberships.has(event.content.membership)
)

const memberForms = [memberNamesUser, memberHasMembership]

/** The creator joins with the event that follows m.room.create, before there are join rules. */
const isCreatorsFirstJoin = ({ event, create }: Subject): boolean =>
  create !== undefined &&
  event.prev_events.length === 1 &&
  event.prev_events[0] === create.event_id &&
  event.state_key === create.sender

const joinsThemselves = rule("Users join for themselves only", isAboutSender)

const joinerIsNotBanned = rule("Banned users cannot join", (subject) => targetIs(subject) !== "ban")

const joinRuleAllows = rule(joinerMustBeInvited, (subject) => {
  const membership = targetIs(subject)
  if (membership === "join" || membership === "invite" || isCreatorsFirstJoin(subject)) return true
  const joinRule = joinRuleOf(subject.state)
  return joinRule === "public" || (joinRule === "private" && isOnMayJoinList(subject.state, subject.event.sender))
})

const inviteeIsNotBanned = rule("Banned users cannot be invited", (subject) => targetIs(subject) !== "ban")

/** Bridges search the refusal for "is already in the room", the words of other servers, and go on as if the invite were sent. */
const inviteeIsOutside = rule("The invited user is already in the room", (subject) => targetIs(subject) !== "join")

const inviterHasLevel = rule(
  "Inviting requires the power level `invite`",
  ({ levels, senderLevel }) => senderLevel >= levelFor(levels, "invite")
)

const leaverWasThere = rule(leaverMustBeThere, (subject) => ["join", "invite", "knock"].includes(targetIs(subject)))

const unbannerHasLevel = rule(
  "Lifting a ban requires the power level `ban`",
  (subject) => targetIs(subject) !== "ban" || subject.senderLevel >= levelFor(subject.levels, "ban")
)

const kickerHasLevel = rule(
  "Removing others requires the power level `kick`",
  ({ levels, senderLevel }) => senderLevel >= levelFor(levels, "kick")
)

const kickedIsThere = rule(
  "Users who are not in the room cannot be removed",
  (subject) => targetIs(subject) !== "leave"
)

const kickedIsBelow = rule(
  "Users remove only those with a lower power level",
  (subject) => targetLevel(subject) < subject.senderLevel
)

const bannerHasLevel = rule(
  "Banning requires the power level `ban`",
  ({ levels, senderLevel }) => senderLevel >= levelFor(levels, "ban")
)

const bannedIsBelow = rule(
  "Users ban only those with a lower power level",
  (subject) => targetLevel(subject) < subject.senderLevel
)

const knocksThemselves = rule("Users knock for themselves only", isAboutSender)

const roomTakesKnocks = rule(roomMustTakeKnocks, ({ state }) => joinRuleOf(state) === "knock")

const knockerIsOutside = rule("Users who are in the room, invited or banned cannot knock", (subject) =>
  ["leave", "knock"].includes(targetIs(subject))
)

const leaveThemselves = [leaverWasThere]
const removeOthers = [senderIsJoined, unbannerHasLevel, kickerHasLevel, kickedIsThere, kickedIsBelow]

const membershipRules = (subject: Subject): ReadonlyArray<Rule> => {
  switch (membershipIn(subject.event.content)) {
    case "join":
      return [joinsThemselves, joinerIsNotBanned, joinRuleAllows]
    case "invite":
      return [senderIsJoined, inviteeIsNotBanned, inviteeIsOutside, inviterHasLevel]
    case "leave":
      return isAboutSender(subject) ? leaveThemselves : removeOthers
    case "ban":
      return [senderIsJoined, bannerHasLevel, bannedIsBelow]
    case "knock":
      return [knocksThemselves, roomTakesKnocks, knockerIsOutside]
  }
}

// Other types

const aliasesBelongToServer = rule(
  "The state key of m.room.aliases is the server of its sender",
  ({ event }) => event.state_key === serverNameOf(event.sender)
)

const senderHasLevel = rule(
  "An event requires the power level of its type",
  ({ event, levels, senderLevel }) => senderLevel >= eventLevel(levels, event.type, event.state_key !== undefined)
)

const userKeyIsSender = rule(
  "State whose key is a user ID is set by that user",
  (subject) => !(subject.event.state_key?.startsWith("@") ?? false) || isAboutSender(subject)
)

const powerLevelsHaveForm = rule(
  "Power levels are integers, in `users` by user ID and in `events` by type",
  ({ event }) => hasPowerLevelForm(event.content)
)

const powerLevelsStayBelow = rule(
  "Users cannot give or take a power level above their own, or change that of an equal",
  ({ event, levels, senderLevel }) =>
    allowsPowerLevels(levels, { content: event.content, creator: undefined }, event.sender, senderLevel)
)

const powerLevelsHaveNoKey = rule('m.room.power_levels has the state key ""', ({ event }) => event.state_key === "")

const redactionNamesEvent = rule("A redaction names the event that it strips", ({ event }) => isEventId(event.redacts))

const redactionIsAllowed = rule(
  "Users redact events of their own server; others take the power level `redact`",
  ({ event, levels, senderLevel }) =>
    senderLevel >= levelFor(levels, "redact") ||
    (event.redacts !== undefined && serverPartOf(event.redacts) === serverNameOf(event.sender))
)

const ordinaryRules = [senderIsJoined, senderHasLevel, userKeyIsSender]
const aliasRules = [aliasesBelongToServer, senderIsJoined]
const powerLevelRules = [...ordinaryRules, powerLevelsHaveNoKey, powerLevelsHaveForm, powerLevelsStayBelow]
const redactionRules = [...ordinaryRules, redactionNamesEvent, redactionIsAllowed]

const rulesFor = (subject: Subject): ReadonlyArray<Rule> => {
  switch (subject.event.type) {
    case "m.room.member":
      return firstBroken(memberForms, subject) === undefined ? membershipRules(subject) : memberForms
    case "m.room.aliases":
      return aliasRules
    case "m.room.power_levels":
      return powerLevelRules
    case "m.room.redaction":
      return redactionRules
    default:
      return ordinaryRules
  }
}

const commonRules = [roomExists, roomIsFederated]
const ownOriginRules = [senderBelongsToOrigin]
const hostRules = [hostIsOrigin, inviteJoinIsNew]

/** Undefined if the rules allow the event in the state before it, else the rule that does not. */
const authorise = (event: Event, state: StateLookup): Refusal | undefined => {
  const create = state("m.room.create", "")
  const levels = powerLevels(state("m.room.power_levels", ""), create)
  const subject: Subject = { event, state, create, levels, senderLevel: userLevel(levels, event.sender) }
  if (event.type === "m.room.create") return firstBroken(createRules, subject)
  return (
    firstBroken(isAskedFor(subject) ? hostRules : ownOriginRules, subject) ??
    firstBroken(commonRules, subject) ??
    firstBroken(rulesFor(subject), subject)
  )
}

/**
 * The types and state keys of the state that `authorise` reads for an event: its auth events. The create event has none;
 * all others have the create event, the power levels and the sender's membership, and a membership event also that of
 * its target and, where one comes in, the join rules.
 */
export const authEventKeys = (event: EventProposal): ReadonlyArray<readonly [type: string, stateKey: string]> => {
  if (event.type === "m.room.create") return []
  const keys: Array<readonly [string, string]> = [
    ["m.room.create", ""],
    ["m.room.power_levels", ""],
    ["m.room.member", event.sender]
  ]
  if (event.type !== "m.room.member" || event.state_key === undefined) return keys
  if (event.state_key !== event.sender) keys.push(["m.room.member", event.state_key])
  const membership = membershipIn(event.content)
  if (membership === "join" || membership === "knock") keys.push(["m.room.join_rules", ""])
  return keys
}

const authEventsRule: Refusal = {
  rule: "The auth events of an event are state of its room that decides about it, one of each sort"
}

const restsOnRejected: Refusal = { rule: "An event must not rest on rejected events" }

/** Whether the events that an event itself names as its auth events allow it. */
const authoriseByAuthEvents: AuthorisationRules["authoriseByAuthEvents"] = (event, authEvents, context) => {
  const expected = new Set(authEventKeys(event).map(([type, stateKey]) => stateKeyOf(type, stateKey)))
  const named = new Set<string>(event.auth_events)
  if (authEvents.length !== event.auth_events.length) return authEventsRule
  for (const authEvent of authEvents) {
    const isExpected =
      authEvent.state_key !== undefined && expected.delete(stateKeyOf(authEvent.type, authEvent.state_key))
    if (!isExpected || !named.has(authEvent.event_id) || authEvent.room_id !== event.room_id) return authEventsRule
    if (context.isRejected(authEvent.event_id)) return restsOnRejected
  }
  return authorise(event, lookupIn(authEvents))
}

/**
 * Whether an allowed m.room.redaction takes effect on the event that it names: one's own events, and with the power
 * level `redact` (in the state before the redaction) those of others. The event that created the room stays.
 */
const authoriseRedaction = (redaction: Event, target: Event, state: StateLookup): Refusal | undefined => {
  if (target.room_id !== redaction.room_id) return { rule: "A redaction strips an event of its own room" }
  if (target.type === "m.room.create") return { rule: "m.room.create cannot be redacted" }
  const levels = powerLevels(state("m.room.power_levels", ""), state("m.room.create", ""))
  return target.sender === redaction.sender || userLevel(levels, redaction.sender) >= levelFor(levels, "redact")
    ? undefined
    : { rule: "Redacting events of others requires the power level `redact`" }
}

/** The authorisation rules of the draft's room version. */
export const draftRules: AuthorisationRules = {
  authEventKeys,
  decidingKeys: authEventKeys,
  authorise,
  authoriseByAuthEvents,
  authoriseRedaction,
  levels: levelsIn
}
