/**
 * The rules for m.room.member, in the order of the specification: `rulesFor` has those of each membership. The numbers are
 * those of version 11.
 *
 * Source: the rules for m.room.member of the room versions.
 */
import { isHistoricalUserId } from "@greenroom/protocol/Identifiers"
import { joinerMustBeInvited, leaverMustBeThere, roomMustTakeKnocks, senderMustBeJoined } from "../OutsiderRules.ts"
import { type Rule, rule } from "./Rule.ts"
import type { Subject } from "./Subject.ts"
import { isSignedBy, signedOf, tokenOf } from "./ThirdPartyInviteRules.ts"

const about = ({ event }: Subject): string => event.state_key ?? ""
const senderIs = ({ event, membershipOf }: Subject): string => membershipOf(event.sender)
const targetIs = (subject: Subject): string => subject.membershipOf(about(subject))
const targetLevel = (subject: Subject): number => subject.levels.user(about(subject))
const isAboutSender = (subject: Subject): boolean => about(subject) === subject.event.sender
/** An absent join rule is `invite`; one of null is unknown and admits nobody. */
const joinRuleOf = ({ state }: Subject): unknown => {
  const joinRule = state("m.room.join_rules", "")?.content.join_rule
  return joinRule === undefined ? "invite" : joinRule
}

/** Rule 5. */
export const senderIsJoined = rule<Subject>(senderMustBeJoined, (subject) => senderIs(subject) === "join")

const memberNamesUser = rule<Subject>("The state key of m.room.member is a user ID", ({ event }) =>
  isHistoricalUserId(event.state_key)
)

// 4.3: join

/** The creator joins with the event that follows m.room.create, before there are join rules. */
const isCreatorsFirstJoin = ({ create, creator, event }: Subject): boolean =>
  create !== undefined &&
  event.prev_events.length === 1 &&
  event.prev_events[0] === create.event_id &&
  event.state_key === creator

const joinsThemselves = rule("Users join for themselves only", isAboutSender)

const joinerIsNotBanned = rule<Subject>("Banned users cannot join", (subject) => targetIs(subject) !== "ban")

/** A joined user who may invite has authorised the join. The event format has checked the signature of that user's server. */
const isVouchedFor = ({ event, levels, membershipOf }: Subject): boolean => {
  const { join_authorised_via_users_server: voucher } = event.content
  return typeof voucher === "string" && membershipOf(voucher) === "join" && levels.user(voucher) >= levels.of("invite")
}

const joinRuleAllows = rule<Subject>(joinerMustBeInvited, (subject) => {
  const joinRule = joinRuleOf(subject)
  const isExpected = ["join", "invite"].includes(targetIs(subject))
  const { knockRules, restrictedRules } = subject.options
  if (joinRule === "public") return true
  if (restrictedRules.has(joinRule as string)) return isExpected || isVouchedFor(subject)
  return (joinRule === "invite" || knockRules.has(joinRule as string)) && isExpected
})

// 4.4: invite

const inviteeIsNotBanned = rule<Subject>("Banned users cannot be invited", (subject) => targetIs(subject) !== "ban")

/** Bridges search the refusal for "is already in the room", the words of other servers, and go on as if the invite were sent. */
const inviteeIsOutside = rule<Subject>(
  "The invited user is already in the room",
  (subject) => targetIs(subject) !== "join"
)

const inviterHasLevel = rule<Subject>(
  "Inviting requires the power level `invite`",
  ({ levels, senderLevel }) => senderLevel >= levels.of("invite")
)

const signedForInvitee = rule<Subject>(
  "An invite by a token has what an identity server signed for the invited user",
  (subject) => signedOf(subject.event.content)?.mxid === about(subject) && tokenOf(subject.event.content) !== undefined
)

const tokenIsSenders = rule<Subject>(
  "An invite by a token comes from the user who stored the token, and is signed by a key that the token names",
  ({ event, state }) => {
    const left = state("m.room.third_party_invite", tokenOf(event.content) ?? "")
    return left !== undefined && left.sender === event.sender && isSignedBy(signedOf(event.content)!, left)
  }
)

const inviteRules = [senderIsJoined, inviteeIsNotBanned, inviteeIsOutside, inviterHasLevel]
const thirdPartyInviteRules = [inviteeIsNotBanned, signedForInvitee, tokenIsSenders]

// 4.5 to 4.7: leave, ban and knock

const leaverIsThere = rule<Subject>(leaverMustBeThere, (subject) => {
  const membership = senderIs(subject)
  return (
    membership === "join" || membership === "invite" || (membership === "knock" && subject.options.knockRules.size > 0)
  )
})

const unbannerHasLevel = rule<Subject>(
  "Lifting a ban requires the power level `ban`",
  (subject) => targetIs(subject) !== "ban" || subject.senderLevel >= subject.levels.of("ban")
)

const kickerHasLevel = rule<Subject>(
  "Removing others requires the power level `kick`",
  ({ levels, senderLevel }) => senderLevel >= levels.of("kick")
)

const bannerHasLevel = rule<Subject>(
  "Banning requires the power level `ban`",
  ({ levels, senderLevel }) => senderLevel >= levels.of("ban")
)

const targetIsBelow = rule<Subject>(
  "Users remove and ban only those with a lower power level",
  (subject) => targetLevel(subject) < subject.senderLevel
)

const roomTakesKnocks = rule<Subject>(roomMustTakeKnocks, (subject) =>
  subject.options.knockRules.has(joinRuleOf(subject) as string)
)

const knocksThemselves = rule("Users knock for themselves only", isAboutSender)

const knockerIsOutside = rule<Subject>(
  "Users who are in the room, invited or banned cannot knock",
  (subject) => !["join", "invite", "ban"].includes(senderIs(subject))
)

const membershipIsKnown = rule<Subject>("A membership is one of those that the room version knows", () => false)

const removal = [senderIsJoined, unbannerHasLevel, kickerHasLevel, targetIsBelow]

const rulesFor = (subject: Subject): ReadonlyArray<Rule<Subject>> => {
  const { content } = subject.event
  switch (content.membership) {
    case "join":
      return isCreatorsFirstJoin(subject) ? [] : [joinsThemselves, joinerIsNotBanned, joinRuleAllows]
    case "invite":
      return content.third_party_invite === undefined ? inviteRules : thirdPartyInviteRules
    case "leave":
      return isAboutSender(subject) ? [leaverIsThere] : removal
    case "ban":
      return [senderIsJoined, bannerHasLevel, targetIsBelow]
    case "knock":
      return subject.options.knockRules.size > 0
        ? [roomTakesKnocks, knocksThemselves, knockerIsOutside]
        : [membershipIsKnown]
    default:
      return [membershipIsKnown]
  }
}

/** The rules for a membership, in the order in which they are checked. */
export const membershipRules = (subject: Subject): ReadonlyArray<Rule<Subject>> => [
  memberNamesUser,
  ...rulesFor(subject)
]
