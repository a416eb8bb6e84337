/**
 * Forgets what transaction IDs of clients were answered once nobody can still be repeating the request.
 */
import { RoomStore } from "@greenroom/store/RoomStore"
import { Clock, Effect } from "effect"

/** For how long a repeat gets the first answer, in milliseconds. */
const rememberedFor = 30 * 24 * 60 * 60 * 1000

/** Runs for as long as the server does. */
export const makeTransactionExpiry = Effect.map(RoomStore, (rooms) =>
  Effect.sleep("1 hour").pipe(
    Effect.andThen(Clock.currentTimeMillis),
    Effect.flatMap((now) => rooms.forgetTransactions(now - rememberedFor)),
    Effect.catchCause((cause) => Effect.logWarning("Old transaction IDs could not be forgotten", cause)),
    Effect.forever
  )
)
