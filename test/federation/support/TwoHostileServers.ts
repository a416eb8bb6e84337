/** Home servers of ours with two other servers that the tests play: a hostile one and an honest one. */
import { freePort } from "@greenroom/store/testing/FreePort"
import { Context, Effect, Layer } from "effect"
import type { HostileNetwork } from "./HostileNetwork.ts"
import { HostileServer } from "./HostileServer.ts"
import { network } from "./Network.ts"

interface ServersShape {
  readonly network: HostileNetwork
  /** An honest server. */
  readonly good: HostileServer
}

export class Servers extends Context.Service<Servers, ServersShape>()("greenroom/test/TwoHostileServers") {
  static readonly layer = Layer.effect(
    Servers,
    Effect.gen(function* () {
      const [evil, good] = [new HostileServer("evil.test", "today"), new HostileServer("good.test", "today")]
      const [evilPort, goodPort] = [yield* freePort, yield* freePort]
      yield* evil.listen(evilPort)
      yield* good.listen(goodPort)
      const others = { "evil.test": evilPort, "good.test": goodPort }
      return { network: { ...(yield* network(["red.test", "blue.test"], { others })), evil }, good }
    })
  )
}
