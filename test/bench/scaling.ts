/**
 * `node test/bench/scaling.ts`: a model of a cluster of up to 50 nodes, fed by figures of `npm run bench -- nodes`, as
 * docs/scaling.svg. See docs/scaling.md, "A model".
 *
 * The processor time of the nodes for an event is `own`, and `remote` more where the room is on another node than the sender,
 * which is so for (n-1)/n of the events; and each of the other n-1 nodes follows the log. PostgreSQL commits the event, and is
 * read by each node.
 */
import * as fs from "node:fs/promises"
import { pathToFileURL } from "node:url"

/** Measured, in ms of processor time for an event. */
export interface Figures {
  /** In a room of the node that its sender asks. */
  readonly own: number
  /** The further cost in a room of another node. */
  readonly remote: number
  /** For each other node, which reads it in the log. */
  readonly follow: number
  /** PostgreSQL's share for the commit. */
  readonly commit: number
  /** PostgreSQL's share for each node that reads. */
  readonly read: number
}

/** A figure that `bench -- nodes` prints for rooms of the asked node, with one, two and three nodes. */
type Own = readonly [one: number, two: number, three: number]

/** `elsewhere`: the figure for rooms of the other of two nodes. `postgres`: of PostgreSQL. */
export const figuresOf = (nodes: Own, elsewhere: number, postgres: Own): Figures => {
  const read = Math.max(0, (postgres[2] - postgres[0]) / 2)
  return {
    own: nodes[0],
    remote: elsewhere - nodes[1],
    follow: (nodes[2] - nodes[0]) / 2,
    commit: Math.max(0, postgres[0] - read),
    read
  }
}

/** 27 November 2026, two processors, 64 senders at one node, loopback. */
const figures = figuresOf([0.203, 0.23, 0.304], 0.264, [0.066, 0.075, 0.088])

/** A node is one thread; it and PostgreSQL are not to be busier than this. */
const busyAtMost = 0.7
const postgresProcessors = 32

/** How often a node reads at most, a second, if readers of the log waited 5 ms between two reads. */
const pacedReads = 200

interface Load {
  /** Events a second. */
  readonly throughput: number
  /** Processors of PostgreSQL that are busy. */
  readonly postgres: number
}

/** The throughput of `n` nodes. `paced`: whether readers wait, so that a read has many events. */
export const loadOf = (n: number, { commit, follow, own, read, remote }: Figures, paced: boolean): Load => {
  const nodeLimit = (n * 1_000 * busyAtMost) / (own + (remote * (n - 1)) / n + follow * (n - 1))
  const postgresAt = (throughput: number) =>
    (throughput * commit + n * read * Math.min(throughput, paced ? pacedReads : Number.POSITIVE_INFINITY)) / 1_000
  let [low, high] = [0, nodeLimit]
  const most = postgresProcessors * busyAtMost
  if (postgresAt(high) <= most) return { throughput: high, postgres: postgresAt(high) }
  for (let i = 0; i < 50; i++) {
    const middle = (low + high) / 2
    if (postgresAt(middle) > most) high = middle
    else low = middle
  }
  return { throughput: low, postgres: most }
}

const size = { width: 760, height: 360, left: 60, right: 60, top: 30, bottom: 45 }
const mostNodes = 50

/** The plot as SVG: throughput to the left scale, PostgreSQL's processors to the right one. */
const plot = (figures: Figures): string => {
  const counts = Array.from({ length: mostNodes }, (_, index) => index + 1)
  const series = [false, true].map((paced) => counts.map((n) => loadOf(n, figures, paced)))
  const highest = Math.ceil(Math.max(...series.flat().map(({ throughput }) => throughput)) / 1_000) * 1_000
  const { bottom, height, left, right, top, width } = size
  const x = (n: number) => left + ((n - 1) / (mostNodes - 1)) * (width - left - right)
  const y = (share: number) => height - bottom - share * (height - top - bottom)
  const line = (values: ReadonlyArray<number>, style: string) =>
    `<polyline fill="none" ${style} points="${values.map((value, i) => `${x(i + 1).toFixed(1)},${y(value).toFixed(1)}`).join(" ")}"/>`
  const text = (at: string, words: string) => `<text ${at}>${words}</text>`
  const styles = ['stroke="#2166ac"', 'stroke="#1b7837"']
  const lines = series.flatMap((loads, index) => [
    line(
      loads.map(({ throughput }) => throughput / highest),
      `${styles[index]} stroke-width="2"`
    ),
    line(
      loads.map(({ postgres }) => postgres / postgresProcessors),
      `${styles[index]} stroke-width="1.5" stroke-dasharray="5 4"`
    )
  ])
  const ticks = [0, 0.25, 0.5, 0.75, 1].flatMap((share) => [
    `<line x1="${left}" x2="${width - right}" y1="${y(share)}" y2="${y(share)}" stroke="#ddd"/>`,
    text(`x="${left - 6}" y="${y(share) + 4}" text-anchor="end"`, `${share * highest}`),
    text(`x="${width - right + 6}" y="${y(share) + 4}"`, `${share * postgresProcessors}`)
  ])
  const nodes = [1, 10, 20, 30, 40, 50].map((n) =>
    text(`x="${x(n)}" y="${height - bottom + 18}" text-anchor="middle"`, `${n}`)
  )
  const legend = [
    text(
      `x="${left}" y="16"`,
      "events a second (lines, left) and busy processors of PostgreSQL (dashes, right), by nodes"
    ),
    text(`x="${left + 10}" y="${height - 8}" fill="#2166ac"`, "as built: a read for each commit"),
    text(`x="${left + 300}" y="${height - 8}" fill="#1b7837"`, "if nodes read at most every 5 ms")
  ]
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" font-family="sans-serif" font-size="12">`,
    "<title>Events a second and load of PostgreSQL by the number of nodes</title>",
    `<rect width="${width}" height="${height}" fill="#fff"/>`,
    ...ticks,
    ...nodes,
    ...lines,
    ...legend,
    "</svg>",
    ""
  ].join("\n")
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? "").href) {
  await fs.writeFile(new URL("../../docs/scaling.svg", import.meta.url), plot(figures))
  const round = (value: number) => Math.round(value * 100) / 100
  console.log(Object.fromEntries(Object.entries(figures).map(([name, value]) => [name, round(value)])))
  for (const n of [1, 2, 3, 5, 10, 20, 50]) {
    const [built, paced] = [loadOf(n, figures, false), loadOf(n, figures, true)]
    console.log(
      n,
      Math.round(built.throughput),
      round(built.postgres),
      Math.round(paced.throughput),
      round(paced.postgres)
    )
  }
}
