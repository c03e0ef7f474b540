/// Who gives an address up, and who only moves.
import Addresses
import Resources
import Testing

@testable import FelixProgram

@Suite("Addresses given up")
struct AddressHoldersTests {
  static let address = IPAddress("10.65.0.9")!
  private func key(_ node: String, _ pod: String = "web--2", namespace: String = "shop", orchestrator: String = "k8s") -> ResourceKey {
    ResourceKey(.workloadEndpoint, namespace: namespace, name: "\(node)-\(orchestrator)-\(pod)-eth0")
  }
  private func resource(_ key: ResourceKey, _ addresses: [IPAddress] = [address], revision: Int = 1) -> Resource {
    var spec = WorkloadEndpointSpec()
    spec.ipNetworks = addresses.map(\.hostPrefix)
    var metadata = Metadata(name: key.name, namespace: key.namespace)
    metadata.resourceVersion = "\(revision)"
    return Resource(metadata, .workloadEndpoint(spec))
  }
  private func holders(_ keys: ResourceKey...) -> AddressHolders {
    var holders = AddressHolders()
    for key in keys { holders.note(key, resource(key)) }
    _ = holders.takeGone()
    return holders
  }

  @Test("A workload that is gone gives its address up")
  func gone() {
    var holders = holders(key("host3"))
    holders.note(key("host3"), nil)
    #expect(holders.takeGone() == [Self.address])
    #expect(holders.takeGone() == [])
  }

  @Test("A workload that has a record on another host keeps it: its flows go on there")
  func moves() {
    var holders = holders(key("host3"), key("host1"))
    holders.giveUp(Self.address, by: key("host3"))
    holders.note(key("host3"), nil)
    #expect(holders.takeGone() == [])
    holders.note(key("host1"), nil)
    #expect(holders.takeGone() == [Self.address])
  }

  @Test("The host whose record is the younger is where the workload arrives, until the other record is gone, whatever was heard first")
  func arriving() {
    for isOldFirst in [true, false] {
      var holders = AddressHolders()
      let (old, new) = (key("host3"), key("host1"))
      holders.note(isOldFirst ? old : new, resource(isOldFirst ? old : new, revision: isOldFirst ? 10 : 20))
      #expect(holders.takeShifted() == [])
      holders.note(isOldFirst ? new : old, resource(isOldFirst ? new : old, revision: isOldFirst ? 20 : 10))
      #expect(holders.takeShifted() == [Self.address])
      #expect(holders.isArriving(Self.address, at: new) && !holders.isArriving(Self.address, at: old))
      holders.note(old, nil)
      #expect(holders.takeShifted() == [Self.address])
      #expect(!holders.isArriving(Self.address, at: new))
    }
    let strangers = holders(key("host3", "web--3"), key("host1"))
    #expect(!strangers.isArriving(Self.address, at: key("host1")) && !strangers.isArriving(Self.address, at: key("host3", "web--3")))
  }

  @Test("Another pod with the address, or a record without it, is no reason to keep the flows", arguments: [
    ("web--3", "shop", "k8s"), ("web--2", "office", "k8s"), ("web--2", "shop", "cni"),
  ])
  func others(pod: String, namespace: String, orchestrator: String) {
    var holders = holders(key("host3"), key("host1", pod, namespace: namespace, orchestrator: orchestrator))
    holders.note(key("host3"), nil)
    #expect(holders.takeGone() == [Self.address])
    holders = self.holders(key("host3"), key("host1"))
    holders.note(key("host1"), resource(key("host1"), []))
    #expect(holders.takeGone() == [])
    holders.note(key("host3"), nil)
    #expect(holders.takeGone() == [Self.address])
  }
}
