/// A world in which the three readings disagree, made as small as it goes: objects, rules and fields fall away while they still disagree.
import PolicyOracle
import Resources

enum Shrinking {
  /// Nil if they agree about this packet alone. Each round tries every smaller world once; a world of a dozen objects is done within seconds.
  static func least(_ resources: [Resource], _ packet: Packet, on bench: WorldBench) throws -> (resources: [Resource], disagreement: Disagreement)? {
    guard var best = try play(resources, [packet], on: bench).disagreement else { return nil }
    var resources = resources
    var isShrinking = true
    while isShrinking {
      isShrinking = false
      for index in resources.indices.reversed() where index < resources.count {
        // Without the endpoint at one of its ends a packet would go where this world has nobody.
        let isEnd =
          if case .workloadEndpoint(let spec) = resources[index].spec {
            spec.ipNetworks.contains { $0.contains(packet.from) || $0.contains(packet.to) }
          } else { resources[index].kind == .node }
        for smaller in (isEnd ? [] : [nil]) + smallerForms(of: resources[index]) {
          var candidate = resources
          if let smaller { candidate[index] = smaller } else { candidate.remove(at: index) }
          guard let found = try play(candidate, [packet], on: bench).disagreement else { continue }
          (resources, best, isShrinking) = (candidate, found, true)
          break
        }
      }
    }
    return (resources, best)
  }

  private static func smallerForms(of resource: Resource) -> [Resource?] {
    var forms: [Resource?] = []
    func add(_ change: (inout Resource) -> Void) {
      var smaller = resource
      change(&smaller)
      if smaller != resource { forms.append(smaller) }
    }
    for label in resource.metadata.labels.keys { add { $0.metadata.labels[label] = nil } }
    switch resource.spec {
    case .networkPolicy(let policy), .globalNetworkPolicy(let policy):
      func policyForms(_ change: (inout PolicySpec) -> Void) { add { $0.spec.changePolicy(change) } }
      for index in policy.ingress.indices {
        policyForms { $0.ingress.remove(at: index) }
        for rule in smallerForms(of: policy.ingress[index]) { policyForms { $0.ingress[index] = rule } }
      }
      for index in policy.egress.indices {
        policyForms { $0.egress.remove(at: index) }
        for rule in smallerForms(of: policy.egress[index]) { policyForms { $0.egress[index] = rule } }
      }
      policyForms { $0.selector = "" }
      policyForms { $0.namespaceSelector = nil }
      policyForms { $0.serviceAccountSelector = nil }
      policyForms { $0.order = nil }
      policyForms { $0.tier = "default" }
      for type in policy.types where policy.types.count > 1 { policyForms { $0.types = [type] } }
    case .profile(var profile):
      for index in profile.ingress.indices {
        add {
          profile.ingress.remove(at: index)
          $0.spec = .profile(profile)
        }
        if case .profile(let fresh) = resource.spec { profile = fresh }
      }
      for index in profile.egress.indices {
        add {
          profile.egress.remove(at: index)
          $0.spec = .profile(profile)
        }
        if case .profile(let fresh) = resource.spec { profile = fresh }
      }
    case .networkSet(let set):
      for index in set.nets.indices {
        var nets = set.nets
        nets.remove(at: index)
        add { $0.spec = .networkSet(NetworkSetSpec(nets: nets)) }
      }
    case .globalNetworkSet(let set):
      for index in set.nets.indices {
        var nets = set.nets
        nets.remove(at: index)
        add { $0.spec = .globalNetworkSet(NetworkSetSpec(nets: nets)) }
      }
    case .workloadEndpoint(let endpoint):
      for index in endpoint.profiles.indices {
        var smaller = endpoint
        smaller.profiles.remove(at: index)
        add { $0.spec = .workloadEndpoint(smaller) }
      }
      for index in endpoint.ports.indices {
        var smaller = endpoint
        smaller.ports.remove(at: index)
        add { $0.spec = .workloadEndpoint(smaller) }
      }
    default: break
    }
    return forms
  }

  private static func smallerForms(of rule: Rule) -> [Rule] {
    var forms: [Rule] = []
    func add(_ change: (inout Rule) -> Void) {
      var smaller = rule
      change(&smaller)
      if smaller != rule { forms.append(smaller) }
    }
    add { $0.source = EntityRule() }
    add { $0.destination = EntityRule() }
    for side in [\Rule.source, \Rule.destination] {
      add { $0[keyPath: side].nets = [] }
      add { $0[keyPath: side].notNets = [] }
      add { $0[keyPath: side].selector = nil }
      add { $0[keyPath: side].notSelector = nil }
      add { $0[keyPath: side].namespaceSelector = nil }
      add { $0[keyPath: side].serviceAccounts = nil }
      add { $0[keyPath: side].ports = [] }
      add { $0[keyPath: side].notPorts = [] }
    }
    add { $0.ipVersion = nil }
    add { $0.icmp = nil }
    add { $0.notICMP = nil }
    add { $0.notProtocol = nil }
    return forms
  }
}
