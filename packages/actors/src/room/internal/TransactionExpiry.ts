/**
 * Deletes the stored answers of client transactions once no client can be repeating the request.
 */
import { RoomStore } from "@greenroom/store/RoomStore"
import { Clock, Effect } from "effect"
import { periodicallyOnce } from "../../runtime/Singletons.ts"

/** The time for which a repeat gets the first answer, in milliseconds. */
const rememberedFor = 30 * 24 * 60 * 60 * 1000

/** Runs until the scope closes. */
export const expireTransactions = Effect.flatMap(RoomStore, (rooms) =>
  periodicallyOnce(
    "Deleting old client transactions",
    "1 hour",
    Effect.flatMap(Clock.currentTimeMillis, (now) => rooms.forgetTransactions(now - rememberedFor))
  )
)
