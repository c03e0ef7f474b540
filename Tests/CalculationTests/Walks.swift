/// Any walk through states is a test: the plan depends on the present state alone, so the way there must not show.
import Addresses
import HostPlans
import Resources
import Testing

@testable import Calculation

/// How a list of states is bent before it is walked.
enum Expansion: String, CaseIterable, Sendable {
  case identity, keysReversed, statesReversed, emptiesInterposed, split, squashed, duplicated, backInTime
}

enum FlushRhythm: String, CaseIterable, Sendable {
  case eachInput, eachState, atEnd
}

/// One stop: inputs to hand in, and the facts that hold afterwards.
struct Leg {
  var inputs: [CalculationInput]
  var facts: Facts
  /// Nil where only the naive calculation knows what to expect.
  var expected: HostPlan?
}

func inputs(from old: Facts, to new: Facts) -> [CalculationInput] {
  var inputs: [CalculationInput] = []
  for key in Set(old.resources.keys).union(new.resources.keys).sorted() where old.resources[key] != new.resources[key] {
    inputs.append(.resource(key, new.resources[key]))
  }
  for prefix in Set(old.blocks.keys).union(new.blocks.keys).sorted() where old.blocks[prefix] != new.blocks[prefix] {
    inputs.append(.block(prefix, new.blocks[prefix]))
  }
  return inputs
}

func legs(_ states: [State], _ expansion: Expansion) -> [Leg] {
  var stops: [(facts: Facts, expected: HostPlan?)] = states.map { ($0.facts, $0.expected) }
  switch expansion {
  case .statesReversed: stops.reverse()
  case .emptiesInterposed: stops = stops.flatMap { [(Facts(), HostPlan()), $0] }
  case .squashed: stops = stops.enumerated().filter { $0.offset % 2 == 1 || $0.offset == stops.count - 1 }.map(\.element)
  default: break
  }
  var legs: [Leg] = []
  var facts = Facts()
  for stop in stops {
    var step = inputs(from: facts, to: stop.facts)
    switch expansion {
    case .keysReversed: step.reverse()
    case .split:
      let middle = step.count / 2
      let half = apply(step[..<middle], to: facts)
      legs.append(Leg(inputs: Array(step[..<middle]), facts: half, expected: nil))
      step = Array(step[middle...])
    case .duplicated: step = step.flatMap { [$0, $0] }
    // What was true before is told again before the new truth, as after a reconnect.
    case .backInTime: step = step.flatMap { [$0] + inputs(from: stop.facts, to: facts).reversed() + step }
    default: break
    }
    legs.append(Leg(inputs: step, facts: stop.facts, expected: stop.expected))
    facts = stop.facts
  }
  return legs
}

func apply(_ inputs: some Sequence<CalculationInput>, to facts: Facts) -> Facts {
  var facts = facts
  for input in inputs {
    switch input {
    case .resource(let key, let resource): facts.resources[key] = resource
    case .block(let prefix, let fact): facts.blocks[prefix] = fact
    case .inSync: break
    }
  }
  return facts
}

/// Walks and returns the first disagreement, in words.
func walk(_ legs: [Leg], _ rhythm: FlushRhythm, syncFirst: Bool) -> String? {
  var calculation = HostCalculation(node: "n1")
  var follower = PlanFollower()
  var facts = Facts()
  if syncFirst { calculation.receive(.inSync) }
  for (index, leg) in legs.enumerated() {
    for input in leg.inputs {
      calculation.receive(input)
      facts = apply([input], to: facts)
      guard rhythm == .eachInput else { continue }
      follower.follow(calculation.flush())
      if let complaint = follower.complaints.first { return "leg \(index): \(complaint)" }
      if syncFirst {
        let naive = NaiveCalculation(node: "n1", facts: facts).plan
        if follower.plan != naive { return "leg \(index), after \(input): \(difference(follower.plan, naive))" }
      }
    }
    if facts != leg.facts { return "leg \(index): the harness lost its way" }
    let isLast = index == legs.count - 1
    if isLast, !syncFirst {
      if !calculation.flush().isEmpty || follower.plan != HostPlan() { return "something was told before the first complete picture" }
      calculation.receive(.inSync)
    }
    guard isLast || (rhythm != .atEnd && syncFirst) else { continue }
    follower.follow(calculation.flush())
    if let complaint = follower.complaints.first { return "leg \(index): \(complaint)" }
    if let expected = leg.expected, follower.plan != expected { return "leg \(index), expected: \(difference(follower.plan, expected))" }
    let naive = NaiveCalculation(node: "n1", facts: facts).plan
    if follower.plan != naive { return "leg \(index), naive: \(difference(follower.plan, naive))" }
    if follower.plan != calculation.plan {
      return "leg \(index): what was told is not `plan`: \(difference(follower.plan, calculation.plan))"
    }
    if !calculation.flush().isEmpty { return "leg \(index): a second flush tells something" }
  }
  return nil
}

func difference(_ got: HostPlan, _ wanted: HostPlan) -> String {
  var lines: [String] = []
  func compare<K: Hashable, V: Equatable>(_ name: String, _ a: [K: V], _ b: [K: V]) {
    for key in Set(a.keys).union(b.keys) where a[key] != b[key] {
      lines.append("\(name) \(key):\n  got    \(a[key].map { "\($0)" } ?? "-")\n  wanted \(b[key].map { "\($0)" } ?? "-")")
    }
  }
  if got.settings != wanted.settings { lines.append("settings: got \(got.settings), wanted \(wanted.settings)") }
  compare("set", got.ipSets, wanted.ipSets)
  compare("policy", got.policies, wanted.policies)
  compare("endpoint", got.endpoints, wanted.endpoints)
  compare("host endpoint", got.hostEndpoints, wanted.hostEndpoints)
  compare("route", got.routes, wanted.routes)
  compare("tunnel", got.tunnels, wanted.tunnels)
  compare("tunnel peer", got.tunnelPeers, wanted.tunnelPeers)
  compare("tunnel demand", got.tunnelDemands, wanted.tunnelDemands)
  return lines.joined(separator: "\n")
}

@Suite("Any walk through states ends in the same plan")
struct WalkTests {
  @Test("The walks of the list, bent in every way, flushed at every rhythm", arguments: Expansion.allCases, FlushRhythm.allCases)
  func walks(_ expansion: Expansion, _ rhythm: FlushRhythm) {
    for states in baseWalks {
      for syncFirst in [true, false] {
        let complaint = walk(legs(states, expansion), rhythm, syncFirst: syncFirst)
        #expect(complaint == nil, "\(states.map(\.name)) in sync first: \(syncFirst)")
      }
    }
  }

  @Test("From every state to every other state")
  func pairs() {
    for from in allStates {
      for to in allStates {
        let complaint = walk(legs([from, to], .identity), .eachState, syncFirst: true)
        #expect(complaint == nil, "\(from.name) -> \(to.name)")
      }
    }
  }
}
