/// The host's own interfaces. Each place asks a map by the interface's name; what is in no map is not policed, unless one endpoint is for
/// all.
///
/// Before policy come, in this order: what was allowed before connection tracking or translation, the cluster's own tunnels, live
/// connections, neighbour discovery, and the failsafe ports. Forwarded packets know no failsafe ports.

import Addresses
import HostPlans
import Resources
import Rulesets

extension BaseRuleset {
  private typealias N = KernelNames
  private var mark: MarkBits { MarkBits(settings) }

  mutating func addHostEndpointStage() {
    guard !hosts.isEmpty else { return }
    for place in hosts.places { sets[place.map] = SetSpec(.interfaceName, data: .verdict, comment: place.words) }
    sets[HostFrame.interfaces] = SetSpec(.interfaceName, comment: "interfaces with a host endpoint of their own")
    if hosts.hasWildcard {
      sets[HostFrame.excluded] = SetSpec(.interfaceName, comment: "interfaces that are not policed (interfaceExclude)")
    }
    if settings.ipv6 {
      // Query, both reports and done of MLD; router and neighbour solicitation and advertisement. Not: redirect.
      sets[N.hostDiscovery] = SetSpec(.icmpv6Type)
      elements[N.hostDiscovery] = Set([130, 131, 132, 133, 134, 135, 136, 143].map { SetElement([$0]) })
    }
    addFailsafes()
    chains[N.hostInput] = Chain(
      allowedEarly(hosts.allowsEarly) + tunnelsAmongHosts(.ingress) + liveConnections + discoveryAccepted + [
        .init(.jump(N.failsafe(.ingress)))
      ]
        + invalid(.input)
        + dispatch(.input))
    chains[N.hostOutput] = Chain(
      toWorkloads + allowedEarly(hosts.has(.untrackedOut)) + tunnelsAmongHosts(.egress) + liveConnections + discoveryAccepted
        + [
          // Only where the packet leaves is its interface known: the translation may have led it to another.
          ChainRule(.connectionStatus(.destinationNAT), .accept), .init(.jump(N.failsafe(.egress))),
        ] + invalid(.output) + dispatch(.output))
    chains[N.hostTranslated] = Chain(
      hook: ChainHook(.postrouting, priority: -150),
      [
        ChainRule(.connectionStatus(.destinationNAT), .match(.inputIndex, .equal, KeyOctets.host32(0)), .goto(N.hostTranslatedTo))
      ])
    chains[N.hostTranslatedTo] = Chain(toWorkloads + liveConnections + [.init(.jump(N.failsafe(.egress)))] + dispatch(.translated))
    // Before the question of what a workload may send, and behind that of what one may receive.
    if hosts.has(.forwardIn) {
      chains[N.hostForwardFrom] = Chain(
        hook: ChainHook(.forward, priority: -2),
        each(.inputName, .accept) + allowedEarly(hosts.allowsEarly) + liveConnections + invalid(.forwardIn) + dispatch(.forwardIn))
    }
    if hosts.has(.forwardOut) {
      chains[N.hostForwardTo] = Chain(
        hook: ChainHook(.forward, priority: 1),
        each(.outputName, .accept) + liveConnections + invalid(.forwardOut) + dispatch(.forwardOut))
    }
    addUntracked()
    addPreDNAT()
  }

  // What other stages do for this one, at their end.
  var hostSourceLast: [ChainRule] { hosts.allowsEarly ? [ChainRule(.goto(N.hostUntrackedFrom))] : [] }
  var hostInputLast: [ChainRule] { hosts.isEmpty ? [] : [ChainRule(.goto(N.hostInput))] }
  var hostOutputLast: [ChainRule] { hosts.isEmpty ? [] : [ChainRule(.goto(N.hostOutput))] }

  // MARK: Before connection tracking and translation

  private mutating func addUntracked() {
    // The mark of a packet that comes in, or of one that a program of the host sends, is nobody's word.
    let unmark = ChainRule(.clearMarkBits(mark.accept))
    if hosts.allowsEarly {
      var rules = [unmark]
      if hosts.has(.untrackedIn) {
        rules +=
          discoveryAccepted + [.init(.jump(N.failsafe(.ingress))), .init(.jump(N.failsafeReplies(.egress)))] + dispatch(.untrackedIn)
      }
      chains[N.hostUntrackedFrom] = Chain(rules)
    }
    if hosts.has(.untrackedOut) {
      chains[N.hostUntrackedTo] = Chain(
        hook: ChainHook(.output, priority: -300),
        [unmark] + toWorkloads + discoveryAccepted + [.init(.jump(N.failsafe(.egress))), .init(.jump(N.failsafeReplies(.ingress)))]
          + dispatch(.untrackedOut))
    }
  }

  private mutating func addPreDNAT() {
    guard hosts.has(.preDNAT) else { return }
    chains[N.hostPreDNAT] = Chain(
      hook: ChainHook(.prerouting, priority: -150),
      each(.inputName, .accept) + allowedEarly(hosts.has(.untrackedIn)) + liveConnections + discoveryAccepted
        + [.init(.jump(N.failsafe(.ingress)))] + invalid(.preDNAT) + dispatch(.preDNAT))
  }

  // MARK: Rules that many places have

  private func dispatch(_ place: HostPlace) -> [ChainRule] {
    // While a chain is replaced it may look empty to a packet: nothing gets past its end, but what is led away before.
    let switching = "its policies are being replaced"
    let rules = [
      ChainRule(.verdictMap([place.field], map: place.map)),
      ChainRule(.lookup([place.field], set: HostFrame.interfaces, negated: false), .counter, .drop, comment: switching),
    ]
    guard let general = hosts.wildcard[place] else { return rules }
    return rules + [ChainRule(.jump(general), comment: "all other interfaces"), ChainRule(.counter, .drop, comment: switching)]
  }

  private var toWorkloads: [ChainRule] { each(.outputName, .accept) }

  private func allowedEarly(_ isPossible: Bool) -> [ChainRule] {
    isPossible
      ? [ChainRule(.markBitsSet(mark.accept), .counter, .accept, comment: "allowed before connection tracking or translation")] : []
  }
  private var liveConnections: [ChainRule] { [ChainRule(.connectionState([.established, .related]), .counter, .accept)] }

  private var discoveryAccepted: [ChainRule] {
    guard settings.ipv6 else { return [] }
    let match: [Statement] = [.family(.v6), .transport(58), .lookup([.icmpType], set: N.hostDiscovery, negated: false)]
    return [ChainRule(match + [.counter, .accept], comment: "neighbour discovery")]
  }

  private func invalid(_ place: HostPlace) -> [ChainRule] {
    guard settings.filter.dropsInvalid else { return [] }
    let set = hosts.hasWildcard ? HostFrame.excluded : HostFrame.interfaces
    return [
      ChainRule(
        .connectionState(.invalid), .lookup([place.field], set: set, negated: hosts.hasWildcard), .counter,
        place == .preDNAT ? .drop : settings.denial, comment: "packet of no connection")
    ]
  }

  // MARK: Failsafe ports

  private mutating func addFailsafes() {
    for (direction, ports) in [(Direction.ingress, settings.failsafes.inbound), (.egress, settings.failsafes.outbound)] {
      let set = N.failsafe(direction)
      sets[set] = SetSpec(.protocolNumber, .port, comment: "failsafe ports, \(direction == .ingress ? "inbound" : "outbound")")
      let elements = Set(
        ports.filter { $0.net == nil }.map { SetElement(KeyOctets.concatenated([$0.ipProtocol.number], KeyOctets.port($0.port))) })
      self.elements[set] = elements.isEmpty ? nil : elements
      for isReply in [false, true] {
        let port: Field = isReply ? .sourcePort : .destinationPort
        // The other end: who asks an inbound port, and who is asked on an outbound one.
        let isSource = (direction == .ingress) != isReply
        let note = isReply ? "reply of a failsafe port" : "failsafe port"
        var rules = [ChainRule(.lookup([.transportProtocol, port], set: set, negated: false), .counter, .accept, comment: note)]
        for entry in ports {
          guard let net = entry.net, families.contains(net.family) else { continue }
          let address: Field = isSource ? .source(net.family) : .destination(net.family)
          rules.append(
            ChainRule(
              .family(net.family), .transport(entry.ipProtocol.number), .port(port, in: entry.port...entry.port),
              .address(address, in: net),
              .counter, .accept, comment: note))
        }
        chains[isReply ? N.failsafeReplies(direction) : set] = Chain(rules)
      }
    }
  }
}
