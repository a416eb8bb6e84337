/**
 * The rates of requests of users: those of all users, or the one that an administrator has set for the user. Administrators, users whom
 * the operator exempts, and application services that are not limited have none.
 */
import { type AccountRate, AccountStandings } from "@greenroom/actors/account/AccountStandings"
import { AppServices } from "@greenroom/actors/app-service/AppServices"
import { HomeServerConfig } from "@greenroom/actors/runtime/HomeServerConfig"
import type { Session } from "@greenroom/actors/runtime/Session"
import { Effect } from "effect"
import type { Rate } from "./Rate.ts"
import { RateLimit } from "./RateLimit.ts"

const toRate = ({ burstCount, messagesPerSecond }: AccountRate): Rate => {
  const limit = Math.max(1, burstCount)
  return { limit, window: Math.ceil((limit * 1_000) / messagesPerSecond) }
}

/** Makes the function that counts a request against the rate of its user. Errors: M_LIMIT_EXCEEDED. */
export const makeTakeOfUser = Effect.gen(function* () {
  const limit = yield* RateLimit
  const services = yield* AppServices
  const standings = yield* AccountStandings
  const { unlimitedUsers = [] } = yield* HomeServerConfig
  const unlimited = new Set<string>(unlimitedUsers)
  const isExempt = ({ admin, appService, userId }: Session) => {
    if (admin === true || unlimited.has(userId)) return true
    const service = appService === undefined ? undefined : services.withId(appService)
    return service !== undefined && (!service.isRateLimited || userId === service.sender)
  }
  return (kind: "sends" | "requests", session: Session) => {
    if (isExempt(session)) return Effect.void
    const own = standings.rateOf(session.userId)
    if (own?.messagesPerSecond === 0) return Effect.void
    return limit.take(kind, session.userId, own === undefined || kind === "requests" ? undefined : toRate(own))
  }
})
