/**
 * Calls of actors: the clients of each kind, found by the name of the kind when it is registered.
 */
import { Deferred, Effect, Exit } from "effect"
import type { Entity } from "effect/cluster"
import type { Actors, Handled } from "./Actors.ts"

/** How long a message waits for the registration of its kind of actor. */
const registrationTimeout = "10 seconds"

export type Client = (entityId: string) => unknown

/** Calls of an actor, a method for each message. */
export const makeClient = (entity: Entity.Any, find: Effect.Effect<Actors>): Client => {
  class ActorRef {
    readonly id: string
    constructor(id: string) {
      this.id = id
    }
  }
  let actors: Actors | undefined
  const found = Effect.map(find, (kind) => {
    actors = kind
    return kind
  })
  for (const tag of entity.protocol.requests.keys()) {
    const ask = function (this: ActorRef, payload: unknown, options?: { readonly discard?: boolean }): Handled {
      const { id } = this
      const send = (kind: Actors) => (options?.discard ? kind.tell(id, tag, payload) : kind.ask(id, tag, payload))
      return actors === undefined ? Effect.flatMap(found, send) : send(actors)
    }
    Object.defineProperty(ActorRef.prototype, tag, { value: ask })
  }
  return (id) => new ActorRef(id)
}

/** The registered kinds of actors; a lookup of another kind waits for a while. */
export class ActorKinds {
  private readonly kinds = new Map<string, Deferred.Deferred<Actors>>()

  add(type: string, actors: Actors): void {
    Deferred.doneUnsafe(this.kindOf(type), Exit.succeed(actors))
  }

  find(type: string): Effect.Effect<Actors> {
    return Effect.timeoutOrElse(Deferred.await(this.kindOf(type)), {
      duration: registrationTimeout,
      orElse: () => Effect.die(new Error(`There is no actor of the kind ${type}`))
    })
  }

  private kindOf(type: string): Deferred.Deferred<Actors> {
    const kind = this.kinds.get(type) ?? Deferred.makeUnsafe<Actors>()
    this.kinds.set(type, kind)
    return kind
  }
}
