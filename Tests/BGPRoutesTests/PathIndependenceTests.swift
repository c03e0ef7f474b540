import Addresses
import BGPMessages
import BGPRoutes
import Testing

/// Walks through random inputs. Wherever a walk is flushed, the table must say what a naive reading of the RFC says, and every
/// neighbour must hold what a table that only ever saw the present state would have told it.
@Suite("Path independence")
struct PathIndependenceTests {
  struct Model {
    struct Item {
      var peer: Int
      var attributes: PathAttributes
    }
    var peers: [Int: RoutePeer] = [:]
    var routes: [IPPrefix: [Int: PathAttributes]] = [:]
    var local: Set<IPPrefix> = []
    var costs: [IPAddress: UInt32?] = [:]
    let cluster: RouterID

    /// The next hops by a pairwise reading, slow and written anew.
    func nextHops(_ prefix: IPPrefix) -> [IPAddress] {
      if local.contains(prefix) { return [] }
      var items = (routes[prefix] ?? [:]).map { Item(peer: $0, attributes: $1) }.filter { item in
        let attributes = item.attributes
        if attributes.asPath.contains(64512) { return false }
        if !peers[item.peer]!.isExternal, attributes.clusterList.contains(cluster) { return false }
        return cost(attributes) != nil
      }
      func least(_ key: (Item) -> Int) {
        let best = items.map(key).min() ?? 0
        items = items.filter { key($0) == best }
      }
      least { -Int($0.attributes.localPreference ?? 100) }
      least { $0.attributes.asPath.length }
      least { Int($0.attributes.origin.rawValue) }
      items = items.filter { item in
        !items.contains { other in
          (other.attributes.asPath.neighborAS ?? 0) == (item.attributes.asPath.neighborAS ?? 0)
            && (other.attributes.multiExitDiscriminator ?? 0) < (item.attributes.multiExitDiscriminator ?? 0)
        }
      }
      least { peers[$0.peer]!.isExternal ? 0 : 1 }
      least { Int(cost($0.attributes)!) }
      return Set(items.map(\.attributes.nextHop.address)).sorted()
    }
    func cost(_ attributes: PathAttributes) -> UInt32? { costs[attributes.nextHop.address] ?? 0 }
  }

  @Test("Random walks end where the naive model and a fresh table are", arguments: 0..<40)
  func walk(round: Int) {
    let seed = UInt64(round) &* 7919 &+ 4211
    var random = Random(state: seed)
    let cluster = routerID("0.0.0.9")
    var bench = Bench(clusterID: cluster)
    var model = Model(cluster: cluster)
    let prefixes = (0..<12).map { prefix("10.0.\($0).0/24") }
    let all = (1...6).map { number in peer(number, as: number > 4 ? 65000 + UInt32(number) : 64512, client: number < 3) }

    for step in 0..<300 {
      let number = Int.random(in: 1...6, using: &random)
      let id = PeerID(number)
      let destination = prefixes.randomElement(using: &random)!
      switch Int.random(in: 0..<12, using: &random) {
      case 0:
        if model.peers[number] == nil {
          model.peers[number] = all[number - 1]
          bench.receive(.peerUp(id, all[number - 1]))
        } else if Int.random(in: 0..<3, using: &random) == 0 {
          model.peers[number] = nil
          for key in model.routes.keys { model.routes[key]![number] = nil }
          bench.receive(.peerDown(id, keepStale: false))
        }
      case 1:
        let nextHop = address("192.0.2.\(Int.random(in: 1...6, using: &random))")
        let cost: UInt32? = Bool.random(using: &random) ? UInt32.random(in: 0...2, using: &random) : nil
        model.costs[nextHop] = .some(cost)
        bench.receive(.nextHop(nextHop, cost.map { .resolvable(interiorCost: $0) } ?? .unresolvable))
      case 2:
        if model.local.remove(destination) != nil {
          bench.receive(.withdraw(destination))
        } else {
          model.local.insert(destination)
          bench.receive(.originate(destination))
        }
      case 3, 4:
        guard model.peers[number] != nil else { continue }
        model.routes[destination, default: [:]][number] = nil
        bench.receive(.update(id, Update(withdrawals: [.init(.ipv4Unicast, [NLRI(destination)])])))
      case 5:
        bench.flush()
        check(&bench, model, all, "seed \(seed) step \(step)")
      default:
        guard let neighbour = model.peers[number] else { continue }
        var attributes = PathAttributes(nextHop: NextHop(address("192.0.2.\(Int.random(in: 1...6, using: &random))")))
        var path = (0..<Int.random(in: 0...2, using: &random)).map { _ in ASNumber(UInt32.random(in: 1...3, using: &random)) }
        if neighbour.isExternal { path.insert(neighbour.asNumber, at: 0) }
        if Int.random(in: 0..<10, using: &random) == 0 { path.append(64512) }
        attributes.asPath = ASPath(path)
        attributes.origin = Bool.random(using: &random) ? .igp : .incomplete
        attributes.multiExitDiscriminator = Bool.random(using: &random) ? UInt32.random(in: 0...2, using: &random) : nil
        if !neighbour.isExternal {
          attributes.localPreference = Bool.random(using: &random) ? 100 : 200
          if Int.random(in: 0..<6, using: &random) == 0 { attributes.clusterList = [cluster] }
          if Int.random(in: 0..<4, using: &random) == 0 {
            attributes.originatorID = routerID("10.0.0.\(Int.random(in: 1...6, using: &random))")
          }
        }
        var batch = [destination]
        if Bool.random(using: &random) { batch.append(prefixes.randomElement(using: &random)!) }
        for prefix in batch { model.routes[prefix, default: [:]][number] = attributes }
        bench.receive(.update(id, Update(announcements: [.init(.ipv4Unicast, attributes, batch.map { NLRI($0) })])))
      }
    }
    bench.flush()
    check(&bench, model, all, "seed \(seed) end")
    for number in 1...6 { bench.receive(.peerDown(PeerID(number), keepStale: false)) }
    for prefix in model.local { bench.receive(.withdraw(prefix)) }
    bench.flush()
    #expect(bench.table.attributeSetCount == 0 && bench.table.prefixCount == 0, "seed \(seed): nothing is left behind")
  }

  private func check(_ bench: inout Bench, _ model: Model, _ all: [RoutePeer], _ place: String) {
    var fresh = Bench(clusterID: model.cluster)
    for (address, cost) in model.costs { fresh.receive(.nextHop(address, cost.map { .resolvable(interiorCost: $0) } ?? .unresolvable)) }
    for number in model.peers.keys.sorted(by: >) { fresh.receive(.peerUp(PeerID(number), model.peers[number]!)) }
    for (prefix, paths) in model.routes {
      for (number, attributes) in paths {
        fresh.receive(.update(PeerID(number), Update(announcements: [.init(.ipv4Unicast, attributes, [NLRI(prefix)])])))
      }
    }
    for prefix in model.local { fresh.receive(.originate(prefix)) }
    fresh.flush()
    var expected: [IPPrefix: [IPAddress]] = [:]
    for prefix in model.routes.keys {
      let hops = model.nextHops(prefix)
      if !hops.isEmpty { expected[prefix] = hops }
    }
    #expect(bench.forwarding == expected, "\(place): the naive model")
    #expect(bench.remarks.isEmpty, "\(place): what we send is well formed")
    #expect(bench.heard == fresh.heard, "\(place): what neighbours hold")
    #expect(Set(bench.table.report()) == Set(fresh.table.report()), "\(place): the report")
  }
}

/// SplitMix64: the same walk from the same seed.
struct Random: RandomNumberGenerator {
  var state: UInt64
  mutating func next() -> UInt64 {
    state &+= 0x9e37_79b9_7f4a_7c15
    var z = state
    z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
    z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
    return z ^ (z >> 31)
  }
}
