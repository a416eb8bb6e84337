/**
 * PDUs that cannot be verified yet, because the keys of a server are missing: they are tried again when keys of that
 * server were learned. It is asked for them from time to time while something waits.
 *
 * Source: docs/federation.md, "Receiving a PDU".
 */
import type { ServerName } from "@greenroom/protocol/Identifiers"
import { keepRunning } from "@greenroom/store/Supervision"
import { UnverifiedPduStore } from "@greenroom/store/UnverifiedPduStore"
import { Clock, Effect, Layer, PubSub } from "effect"
import { keepRunningOnce } from "../runtime/Singletons.ts"
import { signalsOfWork } from "../runtime/WorkSignals.ts"
import { FederationRooms } from "./FederationRooms.ts"
import { RemoteKeys } from "./RemoteKeys.ts"

/** How often the servers are asked for whose keys something waits, and how many of them. */
const askInterval = "1 minute"
const maxSigners = 100

/** How many PDUs are tried at once, and for how long they are kept, in ms. */
const triedAtOnce = 50
const keptFor = 7 * 86_400_000

const make = Effect.gen(function* () {
  const keys = yield* RemoteKeys
  const rooms = yield* FederationRooms
  const store = yield* UnverifiedPduStore
  const learned = yield* PubSub.subscribe(keys.learned)

  /** PDUs that still cannot be verified stay for the next attempt. */
  const tryAgain = Effect.fn("UnverifiedPdus.tryAgain")(function* (signer: ServerName) {
    let tried = 0
    while (true) {
      const waiting = yield* store.waitingFor(signer, tried, triedAtOnce)
      for (const [origin, kept] of Map.groupBy(waiting, (keptPdu) => keptPdu.origin)) {
        const received = yield* rooms.receive(
          origin,
          kept.map(({ pdu }) => pdu)
        )
        yield* store.remove(kept.filter((_, index) => !received[index]!.isKept).map(({ id }) => id))
      }
      if (waiting.length < triedAtOnce) return
      tried = waiting.at(-1)!.id
    }
  })

  const kept = yield* signalsOfWork("unverified PDUs")
  const ask = Effect.gen(function* () {
    yield* store.forget((yield* Clock.currentTimeMillis) - keptFor)
    const signers = yield* store.signers(maxSigners)
    yield* Effect.forEach(signers, (signer) => keys.refresh(signer, new Set()), { concurrency: 8, discard: true })
    yield* signers.length === 0 ? kept : Effect.sleep(askInterval)
  })

  yield* keepRunning("Handling PDUs that waited for keys", Effect.flatMap(PubSub.take(learned), tryAgain))
  yield* keepRunningOnce("Asking for the keys that PDUs wait for", ask)
})

/** Runs until the scope closes. */
export const layer = Layer.effectDiscard(make)
