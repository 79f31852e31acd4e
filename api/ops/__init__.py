"""What operators of the service ask: is it alive, is it ready, how does it fare. Plain HTTP, on loopback by default."""
