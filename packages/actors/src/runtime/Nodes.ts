/**
 * The nodes of the home server, as one node knows them. Node names are new with each start.
 */
import { randomBytes } from "node:crypto"
import { Context, Effect, Latch, type Scope } from "effect"

/** The nodes of the home server. */
export class Nodes extends Context.Service<
  Nodes,
  {
    /** The name of this node, made at the start of the process. */
    readonly name: string
    /** Whether this node is one of several, or may be. */
    readonly isCluster: boolean
    /** The addresses of all nodes that may serve (`addressOfNode`), as the database has them now. */
    readonly addresses: Effect.Effect<ReadonlyArray<string>, unknown>
    /** How many nodes serve, this one included. */
    readonly count: () => number
    /** Whether this node knows who runs which actors, and holds those that are its own. */
    readonly isReady: () => boolean
    /** Whether the node of this name serves, as far as this one knows. */
    readonly isAlive: (name: string) => boolean
    /** Calls `listener` after nodes came or went, until the scope closes. */
    readonly onChange: (listener: () => void) => Effect.Effect<void, never, Scope.Scope>
  }
>()("greenroom/actors/Nodes") {
  /** For a server of one process. */
  static readonly alone = (): Nodes["Service"] => {
    const name = randomName()
    return {
      name,
      isCluster: false,
      addresses: Effect.succeed([]),
      count: () => 1,
      isReady: () => true,
      isAlive: (other) => other === name,
      onChange: () => Effect.void
    }
  }
}

/** 48 bits. */
export const randomName = (): string => randomBytes(6).toString("hex")

/** The address of the node with this name: a later start at the same address has another name. */
export const addressOfNode = (name: string): string => name.slice(0, Math.max(0, name.indexOf("/")))

/** Waits until nodes came or went, or other listeners would have been called, since the last return. For one waiter. */
export const latchOfChanges = Effect.fnUntraced(function* ({ onChange }: Pick<Nodes["Service"], "onChange">) {
  const changed = Latch.makeUnsafe(false)
  yield* onChange(() => changed.openUnsafe())
  return Effect.map(changed.await, () => {
    changed.closeUnsafe()
  })
})
