/**
 * Metrics of the server (`effect/Metric`): existing values, which are read when the metrics are scraped, and cost nothing otherwise.
 *
 *     yield* gauge("greenroom_websockets", "Open WebSockets", () => open.size)
 *
 * Names and units follow Prometheus: seconds, bytes, `_total` for counters. Each label has few values, which clients cannot choose. docs/monitoring.md lists all metrics, and a test compares.
 */
import { type Context, Effect, Metric, type Scope } from "effect"

export type Labels = Readonly<Record<string, string>>

/** Registers a series until the scope closes. */
const register = <Input, State>(
  metric: Metric.Metric<Input, State>,
  get: () => State
): Effect.Effect<void, never, Scope.Scope> =>
  Effect.asVoid(
    Effect.acquireRelease(
      Effect.contextWith((context: Context.Context<never>) => Effect.sync(() => registerIn(context, metric, get))),
      ({ remove }) => Effect.sync(remove)
    )
  )

const registerIn = <Input, State>(
  context: Context.Context<never>,
  metric: Metric.Metric<Input, State>,
  get: () => State
) => Metric.registerUnsafe(metric, context, { get, update: () => {}, modify: () => {} })

/** A value that goes up and down. */
export const gauge = (name: string, description: string, read: () => number, attributes: Labels = {}) =>
  register(Metric.gauge(name, { description, attributes }), () => ({ value: read() }))

/** A value that only grows while the process runs. */
export const counter = (name: string, description: string, read: () => number, attributes: Labels = {}) =>
  register(Metric.counter(name, { description, attributes }), () => ({ count: read(), incremental: true }))

/** A histogram: how often values were in each range. Recording a value is one increment. */
export class Distribution {
  private readonly boundaries: ReadonlyArray<number>
  private readonly counts: Float64Array
  private count = 0
  private sum = 0
  private min = 0
  private max = 0

  /** `boundaries` are ascending. */
  constructor(boundaries: ReadonlyArray<number>) {
    this.boundaries = boundaries
    this.counts = new Float64Array(boundaries.length + 1)
  }

  record(value: number): void {
    let index = 0
    while (index < this.boundaries.length && value > this.boundaries[index]!) index++
    this.counts[index] = this.counts[index]! + 1
    this.min = this.count === 0 ? value : Math.min(this.min, value)
    this.max = this.count === 0 ? value : Math.max(this.max, value)
    this.count++
    this.sum += value
  }

  state(): Metric.HistogramState {
    let below = 0
    const buckets = this.boundaries.map((boundary, index): [number, number] => {
      below += this.counts[index]!
      return [boundary, below]
    })
    return { buckets, count: this.count, sum: this.sum, min: this.min, max: this.max }
  }
}

/** Boundaries of durations, in seconds. */
export const durations: ReadonlyArray<number> = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10]

const histogramOf = (name: string, description: string, attributes: Labels) =>
  Metric.histogram(name, { description, attributes, boundaries: durations })

/** A distribution of durations. */
export const distribution = (name: string, description: string, values: Distribution, attributes: Labels = {}) =>
  register(histogramOf(name, description, attributes), () => values.state())

/**
 * Series that are added while the process runs, such as one for each endpoint that is requested. They stay until the process
 * ends, so their labels must have few values.
 */
export class SeriesRegistry {
  private readonly context: Context.Context<never>

  constructor(context: Context.Context<never>) {
    this.context = context
  }

  /** A counter; increment `count`. */
  counter(name: string, description: string, attributes: Labels): { count: number } {
    const counted = { count: 0 }
    registerIn(this.context, Metric.counter(name, { description, attributes }), () => ({
      count: counted.count,
      incremental: true
    }))
    return counted
  }

  distribution(name: string, description: string, attributes: Labels): Distribution {
    const values = new Distribution(durations)
    registerIn(this.context, histogramOf(name, description, attributes), () => values.state())
    return values
  }
}
