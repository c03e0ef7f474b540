/// Whole messages as they stand on the wire, each read and written back octet for octet.
import Addresses
import BGPMessages
import Testing

@Suite("Messages on the wire")
struct FrameTests {
  @Test("A KEEPALIVE is a header and nothing else (RFC 4271, section 4.4)")
  func keepalive() throws {
    let wire = octets(
      """
      ffffffffffffffffffffffffffffffff  ; marker
      0013                              ; length 19
      04                                ; KEEPALIVE
      """)
    #expect(try Message.decode(wire) == .keepalive)
    #expect(Message.keepalive.encoded() == wire)
  }

  @Test("An OPEN carries every capability in one parameter (RFC 5492)")
  func open() throws {
    let wire = octets(
      """
      ffffffffffffffffffffffffffffffff  ; marker
      005d 01                           ; length 93, OPEN
      04                                ; version
      5ba0                              ; AS_TRANS
      005a                              ; hold time 90 s
      0a000001                          ; router id 10.0.0.1
      40                                ; optional parameters: 64 octets
      02 3e                             ; capabilities: 62 octets
      01 04 0001 00 01                  ; multiprotocol: IPv4 unicast
      01 04 0002 00 01                  ; multiprotocol: IPv6 unicast
      02 00                             ; route refresh
      05 06 0001 0001 0002              ; extended next hop: IPv4 unicast over IPv6
      06 00                             ; extended message
      09 01 03                          ; role: customer
      40 0a 8078 0001 01 80 0002 01 00  ; graceful restart: restarting, 120 s, IPv4 forwarding, IPv6 not
      41 04 fa56ea01                    ; four-octet AS 4200000001
      45 08 0001 01 03 0002 01 01       ; add-path: IPv4 both ways, IPv6 receive
      46 00                             ; enhanced route refresh
      80 03 0a0b0c                      ; one that we do not know
      """)
    let open = Open(
      asNumber: 4_200_000_001, holdTimeSeconds: 90, routerID: RouterID("10.0.0.1")!,
      capabilities: [
        .multiprotocol(.ipv4Unicast), .multiprotocol(.ipv6Unicast), .routeRefresh,
        .extendedNextHop([Capability.ExtendedNextHop(family: .ipv4Unicast, nextHopAFI: 2)]), .extendedMessage, .role(.customer),
        .gracefulRestart(
          Capability.GracefulRestart(
            isRestarting: true, restartTimeSeconds: 120,
            families: [.init(.ipv4Unicast, isForwarding: true), .init(.ipv6Unicast, isForwarding: false)])),
        .fourOctetAS(4_200_000_001),
        .addPath([.init(.ipv4Unicast, receives: true, sends: true), .init(.ipv6Unicast, receives: true, sends: false)]),
        .enhancedRouteRefresh, .unknown(code: 128, value: [10, 11, 12]),
      ])
    #expect(wire.count == 93)
    #expect(try Message.decode(wire) == .open(open))
    #expect(Message.open(open).encoded() == wire)
    #expect(open.asNumber == 4_200_000_001)
  }

  @Test("An OPEN whose capabilities exceed 255 octets uses extended lengths (RFC 9072)")
  func extendedParameters() throws {
    let open = Open(
      asNumber: 65001, holdTimeSeconds: 0, routerID: RouterID(rawValue: 1),
      capabilities: (0..<5).map { .unknown(code: 200 + $0, value: [UInt8](repeating: $0, count: 100)) })
    let wire = Message.open(open).encoded()
    #expect(wire[28...33] == [255, 255, 2, 1, 2, 1])
    #expect(try Message.decode(wire) == .open(open))
  }

  @Test("An IPv4 UPDATE of an internal peer (RFC 4271, section 4.3; RFC 4456; RFC 8092)")
  func updateIPv4() throws {
    let wire = octets(
      """
      ffffffffffffffffffffffffffffffff  ; marker
      0080 02                           ; length 128, UPDATE
      0000                              ; nothing withdrawn
      0063                              ; attributes: 99 octets
      40 01 01 02                       ; ORIGIN incomplete
      40 02 10                          ; AS_PATH
        02 02 0000fde9 fa56ea01         ;   sequence 65001 4200000001
        01 01 0000fdea                  ;   set 65002
      40 03 04 ac1e0102                 ; NEXT_HOP 172.30.1.2
      80 04 04 00000064                 ; MULTI_EXIT_DISC 100
      40 05 04 7ffffbff                 ; LOCAL_PREF 2147482623
      40 06 00                          ; ATOMIC_AGGREGATE
      c0 07 08 0000fde9 0a000001        ; AGGREGATOR AS 65001 10.0.0.1
      c0 08 04 fde9012c                 ; COMMUNITIES 65001:300
      80 09 04 0a000009                 ; ORIGINATOR_ID 10.0.0.9
      80 0a 04 f4000001                 ; CLUSTER_LIST 244.0.0.1
      c0 20 0c fa56ea01 00000001 00000002 ; LARGE_COMMUNITY 4200000001:1:2
      e0 63 02 cafe                     ; attribute 99, passed on
      1a 0a410000                       ; 10.65.0.0/26
      00                                ; 0.0.0.0/0
      """)
    var attributes = PathAttributes(
      nextHop: .v4(IPv4Address(172, 30, 1, 2)),
      asPath: ASPath(segments: [.init(.sequence, [65001, 4_200_000_001]), .init(.set, [65002])]), origin: .incomplete)
    attributes.multiExitDiscriminator = 100
    attributes.localPreference = 2_147_482_623
    attributes.isAtomicAggregate = true
    attributes.aggregator = Aggregator(asNumber: 65001, address: IPv4Address(10, 0, 0, 1))
    attributes.communities = [Community(65001, 300)]
    attributes.originatorID = RouterID("10.0.0.9")
    attributes.clusterList = [RouterID("244.0.0.1")!]
    attributes.largeCommunities = [LargeCommunity(4_200_000_001, 1, 2)]
    attributes.unknown = [UnknownAttribute(code: 99, octets: [0xca, 0xfe])]
    let update = Update(announcements: [.init(.ipv4Unicast, attributes, [prefix("10.65.0.0/26"), prefix("0.0.0.0/0")])])
    #expect(try decodeUpdate(wire) == update)
    #expect(Message.update(update).encoded() == wire)
    #expect(attributes.asPath.length == 3 && attributes.asPath.description == "65001 4200000001 {65002}")
  }

  @Test("An IPv6 UPDATE has MP_REACH_NLRI first, with both next hops (RFC 4760; RFC 2545)")
  func updateIPv6() throws {
    let wire = octets(
      """
      ffffffffffffffffffffffffffffffff  ; marker
      0060 02                           ; length 96, UPDATE
      0000                              ; nothing withdrawn
      0049                              ; attributes: 73 octets
      90 0e 0037                        ; MP_REACH_NLRI, extended length
        0002 01 20                      ;   IPv6 unicast, 32 octets of next hop
        20010db8000000000000000000000001 ;  2001:db8::1
        fe800000000000000000000000000001 ;  fe80::1
        00                              ;   reserved
        7a fd00000100000000000000000000abc0 ; fd00:1::abc0/122
        00                              ;   ::/0
      40 01 01 00                       ; ORIGIN IGP
      40 02 00                          ; AS_PATH, empty
      40 05 04 00000064                 ; LOCAL_PREF 100
      """)
    var attributes = PathAttributes(nextHop: .v6(IPv6Address("2001:db8::1")!, linkLocal: IPv6Address("fe80::1")))
    attributes.localPreference = 100
    let update = Update(announcements: [.init(.ipv6Unicast, attributes, [prefix("fd00:1::abc0/122"), prefix("::/0")])])
    let options = DecodeOptions(families: [.ipv4Unicast, .ipv6Unicast])
    #expect(Message.update(update).encoded() == wire)
    #expect(try decodeUpdate(wire, options) == update)
  }

  @Test("Withdrawals of both families, and their End-of-RIB markers (RFC 4271; RFC 4760; RFC 4724)")
  func withdrawals() throws {
    let options = DecodeOptions(families: [.ipv4Unicast, .ipv6Unicast])
    let wire4 = updateFrame(withdrawn: "18 0a0000 ; 10.0.0.0/24")
    let update4 = Update(withdrawals: [.init(.ipv4Unicast, [prefix("10.0.0.0/24")])])
    #expect(try decodeUpdate(wire4, options) == update4)
    #expect(Message.update(update4).encoded() == wire4)
    let wire6 = updateFrame(attributes: "90 0f 0008 0002 01 20 20010db8 ; MP_UNREACH_NLRI 2001:db8::/32")
    let update6 = Update(withdrawals: [.init(.ipv6Unicast, [prefix("2001:db8::/32")])])
    #expect(try decodeUpdate(wire6, options) == update6)
    #expect(Message.update(update6).encoded() == wire6)
    let end4 = updateFrame()
    #expect(try decodeUpdate(end4, options) == Update(endOfRIB: .ipv4Unicast))
    #expect(Message.update(Update(endOfRIB: .ipv4Unicast)).encoded() == end4)
    let end6 = updateFrame(attributes: "80 0f 03 0002 01")
    #expect(try decodeUpdate(end6, options) == Update(endOfRIB: .ipv6Unicast))
    #expect(Message.update(Update(endOfRIB: .ipv6Unicast)).encoded() == end6)
  }

  @Test("Path identifiers stand before each prefix where they are agreed on (RFC 7911)")
  func addPath() throws {
    let wire = updateFrame(withdrawn: "00000007 18 0a0000  00000008 18 0a0000")
    let update = Update(
      withdrawals: [.init(.ipv4Unicast, [NLRI(IPPrefix("10.0.0.0/24")!, pathID: 7), NLRI(IPPrefix("10.0.0.0/24")!, pathID: 8)])])
    #expect(try decodeUpdate(wire, DecodeOptions(addPath: [.ipv4Unicast])) == update)
    #expect(Message.update(update).encoded(options: EncodeOptions(addPath: [.ipv4Unicast])) == wire)
  }

  @Test("An IPv4 prefix behind an IPv6 next hop goes into MP_REACH_NLRI (RFC 8950)")
  func extendedNextHop() throws {
    var attributes = PathAttributes(nextHop: .v6(IPv6Address("fe80::2")!, linkLocal: nil), asPath: ASPath([65001]))
    attributes.localPreference = 100
    let update = Update(announcements: [.init(.ipv4Unicast, attributes, [prefix("10.0.0.0/8")])])
    let wire = Message.update(update).encoded()
    #expect(try decodeUpdate(wire, DecodeOptions(extendedNextHop: [.ipv4Unicast])) == update)
    #expect(throws: MessageFailure.self) { try decodeUpdate(wire) }
  }

  @Test("A shutdown message is told in the words of the other operator (RFC 9003)")
  func shutdownMessage() throws {
    let notification = Notification.cease(.administrativeShutdown, message: "kernel upgrade, back at 10:00")
    let wire = Message.notification(notification).encoded()
    #expect(Array(wire[18...22]) == [3, 6, 2, 29, UInt8(ascii: "k")])
    #expect(try Message.decode(wire) == .notification(notification))
    #expect(notification.description == "cease: administrative shutdown (\"kernel upgrade, back at 10:00\")")
    let long = Notification.cease(.administrativeReset, message: String(repeating: "é", count: 200))
    #expect(long.data.count == 255 && long.data[0] == 254)
    #expect(Notification(code: 6, subcode: 2, data: [9, 65]).shutdownMessage == nil)
    #expect(Notification(code: 6, subcode: 2, data: [3, 65, 27, 66]).shutdownMessage == "A\u{FFFD}B")
  }

  @Test("A ROUTE-REFRESH asks, begins or ends (RFC 2918; RFC 7313)", arguments: [RouteRefresh.Kind.request, .begin, .end])
  func routeRefresh(kind: RouteRefresh.Kind) throws {
    let wire = frame(.routeRefresh, [0, 2, kind.rawValue, 1])
    #expect(try Message.decode(wire) == .routeRefresh(RouteRefresh(.ipv6Unicast, kind)))
    #expect(Message.routeRefresh(RouteRefresh(.ipv6Unicast, kind)).encoded() == wire)
  }

  @Test("A BoRR of another length is answered with the whole message (RFC 7313, section 5)")
  func routeRefreshLength() {
    let wire = frame(.routeRefresh, [0, 1, 1, 1, 0])
    #expect { try Message.decode(wire) } throws: { ($0 as? MessageFailure)?.notification == .routeRefreshLength(wire) }
  }
}

@Suite("Numbers and their text")
struct IdentifierTests {
  @Test("AS numbers are read in asplain and asdot", arguments: [
    ("65001", 65001), ("AS65001", 65001), ("as 1", nil), ("64086.59905", 4_200_000_001), ("0.1", 1), ("4294967295", UInt32.max),
    ("4294967296", nil), ("65536.0", nil), ("1.65536", nil), ("", nil), ("+1", nil), ("-1", nil), ("1.", nil), (".1", nil), ("1.2.3", nil),
  ] as [(String, UInt32?)])
  func asNumbers(text: String, value: UInt32?) { #expect(ASNumber(text)?.rawValue == value) }

  @Test("Communities are read strictly")
  func communities() {
    #expect(Community("65001:300") == Community(65001, 300))
    #expect(Community("65536:1") == nil && Community("1") == nil && Community("+1:2") == nil && Community("1:2:3") == nil)
    #expect(LargeCommunity("4200000001:1:2") == LargeCommunity(4_200_000_001, 1, 2))
    #expect(LargeCommunity("1:2") == nil)
    #expect(Community.noExport.description == "65535:65281")
  }

  @Test("A prefix knows its bits left-aligned, in both families")
  func nlri() {
    #expect(prefix("10.0.0.0/8").high == 0x0a << 56)
    #expect(prefix("2001:db8::/32").high == 0x2001_0db8 << 32)
    #expect(prefix("10.65.0.0/26").prefix == IPPrefix("10.65.0.0/26"))
    let ascending = [prefix("10.0.0.0/8"), prefix("10.0.0.0/9"), prefix("::/0")]
    #expect(ascending.reversed().sorted() == ascending)
    #expect(MemoryLayout<NLRI>.stride == 24)
  }
}
