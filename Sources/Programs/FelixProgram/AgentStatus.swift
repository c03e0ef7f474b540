/// What the agent answers on its socket.
import Addresses
import Calculation
import Datastore
import HealthServer
import HostPlans
import JSON
import Names
import PolicyRendering
import Resources
import Sockets

extension FelixAgent {
  func status() -> JSONValue {
    let told = hostStatus()
    let endpoints = plan.endpoints.sorted { $0.key < $1.key }.map { key, endpoint -> JSONValue in
      let problem = areRulesRight ? progress[key]?.problem : "the rules are not in the kernel"
      return [
        "name": .string(key.qualifiedName), "interface": .string(endpoint.interfaceName),
        "addresses": .array(endpoint.addresses.map { .string($0.description) }),
        "state": .string(problem == nil ? "up" : "pending"), "problem": problem.map { .string($0) } ?? nil,
        "since": reporter?.status(of: key).map { .string($0.since.text) } ?? nil,
        "profiles": .array(endpoint.profiles.map { .string($0) }),
      ]
    }
    let resolution = renderer.interfaceResolution
    let hostEndpoints = plan.hostEndpoints.keys.sorted().map { key -> JSONValue in
      let problem = areRulesRight ? resolution.findings[key] : "the rules are not in the kernel"
      return [
        "name": .string(key.name), "interfaces": .array(resolution.interfaces(of: key).map { .string($0) }),
        "problem": problem.map { .string($0) } ?? nil,
      ]
    }
    return [
      "node": .string(node), "inSync": .bool(isInSync && areRulesRight), "revision": .integer(applied.rawValue),
      "datastore": datastoreProblem.map { .string($0) } ?? "connected",
      "uptimeSeconds": .integer((MonotonicInstant.now - startedAt).components.seconds),
      "rounds": .integer(Int64(rounds)), "kernelChanges": .integer(Int64(kernelChanges)),
      "policies": .integer(Int64(plan.policies.count)), "ipSets": .integer(Int64(plan.ipSets.count)),
      "endpoints": .array(endpoints), "hostEndpoints": .array(hostEndpoints), "problems": .array(told.problems.map { .string($0.text) }),
      "problemsSince": .array(told.problems.map { .string($0.since.text) }),
      "findings": .array(
        told.findings.map { ["object": .string($0.object ?? ""), "finding": .string($0.text), "since": .string($0.since.text)] }),
      "health": readinessReport().json, "settings": SettingsReport(calculation.settingsResolution).json,
      "drops": flowLog.status,
      "reporting": reporter?.leased.problem.map { .string($0) } ?? "ok",
    ]
  }
}
